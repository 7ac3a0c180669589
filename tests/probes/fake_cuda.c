/* A stand-in for libcuda.so.1 with three devices: a card, an integrated one without an address, and one that cannot be
   opened. Built with -DINIT_STATUS=802 it refuses to start. Numbers are those of CUDA's public header. */
#include <stdlib.h>
#include <string.h>

#ifndef INIT_STATUS
#define INIT_STATUS 0
#endif
enum { OK = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101 };

int cuInit(unsigned flags) { return INIT_STATUS; }
int cuDriverGetVersion(int *version) { *version = 13030; return OK; }
int cuGetErrorName(int status, const char **name) {
    *name = status == 802 ? "CUDA_ERROR_SYSTEM_NOT_READY" : 0;
    return status == 802 ? OK : INVALID_VALUE;
}
int cuDeviceGetCount(int *count) { *count = getenv("CUDA_VISIBLE_DEVICES") ? 0 : 3; return OK; }
int cuDeviceGet(int *device, int index) { *device = index + 7; return index == 2 ? INVALID_DEVICE : OK; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 7 ? "NVIDIA GeForce RTX 4090" : "NVIDIA GB10", length);
    return OK;
}
int cuDeviceTotalMem_v2(size_t *size, int device) { *size = 25393692672ul * (device - 6); return OK; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (attribute == 75) *value = device == 7 ? 8 : 12;
    else if (attribute == 76) *value = device == 7 ? 9 : 1;
    else if (attribute == 18) *value = device == 8;
    else return INVALID_VALUE;
    return OK;
}
int cuDeviceGetPCIBusId(char *address, int length, int device) {
    if (device == 8) return INVALID_DEVICE;
    strncpy(address, "0000:01:00.0", length);
    return OK;
}
