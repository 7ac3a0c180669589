/* A stand-in for libnvidia-ml.so.1 with four devices: a healthy one, a lost one, one whose memory is not supported and
   whose fabric is not ready, and one that is cut into MIG slices. Layouts are those of NVML's public header. */
#include <stdint.h>
#include <string.h>

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char address[32];
} pci_info;
typedef struct { unsigned version; unsigned char cluster[16]; unsigned status, clique, state, health; } fabric_info;
typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    unsigned type, status;
    union { unsigned number; unsigned long long wide; } value;
} field_value;
typedef struct { unsigned version, value; } addressing_mode;

enum { OK = 0, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, LOST = 15 };
static long number(void *handle) { return (long)(intptr_t)handle; }

int nvmlInitWithFlags(unsigned flags) { return OK; }
int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return "an error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strcpy(text, "580.126.09"); return OK; }
int nvmlSystemGetNVMLVersion(char *text, unsigned size) { strcpy(text, "13.580.126.09"); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 4; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index == 1) return LOST;
    *handle = (void *)(intptr_t)(index + 1);
    return OK;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    strcpy(text, number(handle) > 100 ? "NVIDIA H100 MIG 1g.10gb" : "NVIDIA H100 80GB HBM3");
    return OK;
}
int nvmlDeviceGetPciInfo_v3(void *handle, pci_info *info) {
    memset(info, 0, sizeof *info);
    strcpy(info->address, "00000000:1B:00.0");
    info->address[10] = (char)('0' + number(handle));
    info->id = 0x233010DE;
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *info) {
    if (number(handle) == 3) return NOT_SUPPORTED;
    if (number(handle) == 4) return NO_PERMISSION;
    if (number(handle) > 100) return NOT_SUPPORTED; /* so that version 1 has to answer */
    if (info->version != 0x2000028) return 25;
    info->total = 1000; info->reserved = 100; info->free = 800; info->used = 100;
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *info) {
    if (number(handle) == 3) return NOT_SUPPORTED;
    if (number(handle) == 4) return NO_PERMISSION;
    info->total = 125; info->free = 120; info->used = 5;
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) { *major = 9; *minor = 0; return OK; }
int nvmlDeviceGetAddressingMode(void *handle, addressing_mode *mode) {
    mode->value = number(handle) == 3 ? 2 : 0;
    return OK;
}
int nvmlDeviceGetGpuFabricInfoV(void *handle, fabric_info *info) {
    info->state = number(handle) == 3 ? 2 : 3;
    info->status = 0;
    return OK;
}
int nvmlDeviceGetFieldValues(void *handle, int count, field_value *values) {
    values[0].status = values[0].field == 230 ? OK : NOT_SUPPORTED;
    values[0].value.wide = number(handle) == 1 ? 2 : 0;
    return OK;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    *current = *pending = number(handle) == 4;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { *count = number(handle) == 4 ? 7 : 0; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **slice) {
    if (index != 2 && index != 5) return NOT_FOUND;
    *slice = (void *)(intptr_t)(100 + index);
    return OK;
}
