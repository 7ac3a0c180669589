/* A stand-in for libamdhip64.so with three devices: a card, an integrated one without an address, and one that cannot
   be opened. Built with -DINIT_STATUS=100 it knows no device. Numbers are those of HIP's public header. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef INIT_STATUS
#define INIT_STATUS 0
#endif
enum { OK = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101 };

int hipInit(unsigned flags) { printf("the runtime talks\n"); fflush(stdout); return INIT_STATUS; }
int hipRuntimeGetVersion(int *version) { *version = 70253211; return OK; }
const char *hipGetErrorName(int status) { return status == 100 ? "hipErrorNoDevice" : 0; }
int hipGetDeviceCount(int *count) { *count = getenv("HIP_VISIBLE_DEVICES") ? 0 : 3; return OK; }
int hipDeviceGet(int *device, int index) { *device = index + 7; return index == 2 ? INVALID_DEVICE : OK; }
int hipDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 7 ? "AMD Radeon RX 9070 XT" : "Radeon 8060S Graphics", length);
    return OK;
}
int hipDeviceTotalMem(size_t *size, int device) { *size = device == 7 ? 17095983104ul : 128849018880ul; return OK; }
int hipDeviceGetAttribute(int *value, int attribute, int device) {
    *value = device == 8;
    return attribute == 16 ? OK : INVALID_VALUE;
}
int hipDeviceGetPCIBusId(char *address, int length, int device) {
    if (device == 8) return INVALID_DEVICE;
    strncpy(address, "0000:03:00.0", length);
    return OK;
}
/* The target's name stands at another place in each release's structure. */
int hipGetDevicePropertiesR0600(char *properties, int device) {
    if (getenv("HSA_OVERRIDE_GFX_VERSION")) return INVALID_VALUE;
    strcpy(properties, device == 7 ? "AMD Radeon RX 9070 XT" : "Radeon 8060S Graphics");
    strcpy(properties + 1160, device == 7 ? "gfx1201" : "gfx1151:sramecc-:xnack-");
    return OK;
}
