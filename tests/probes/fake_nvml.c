/* A stand-in for libnvidia-ml.so.1 with four devices: one that works and is due for repair, a lost one, one whose memory
   is not supported and whose fabric is not ready, and a virtual one that is cut into MIG slices. The first and the third
   are linked directly twice. Layouts are those of NVML's public header. */
#include <stdint.h>
#include <string.h>

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char address[32];
} pci_info;
typedef struct {
    unsigned version;
    unsigned char cluster[16];
    unsigned status, clique, state, health;
    unsigned char summary; /* from version 3 on */
} fabric_info;
typedef struct { unsigned code, state; char info[128], product[128]; unsigned enabled, expiry[4]; } licensable_feature;
typedef struct { int supported; unsigned count; licensable_feature features[3]; } licensable_features;
typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    unsigned type, status;
    union { unsigned number; unsigned long long wide; } value;
} field_value;
typedef struct { unsigned version, value; } addressing_mode;

enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, LOST = 15, OLD_VERSION = 25 };
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
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    strcpy(text, number(handle) > 100 ? "MIG-377e0049-554c-540b-93c6-d0976f8426cb" : "GPU-7f57f032-34ab-a064-c37c-7a4f75601cc5");
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
    if (info->version == 0x3000028) {
        if (number(handle) == 3) return OLD_VERSION;
        info->summary = 1;
    }
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

int nvmlDeviceGetEccMode(void *handle, unsigned *current, unsigned *pending) {
    *current = 1;
    *pending = number(handle) != 1;
    return OK;
}
int nvmlDeviceGetRetiredPagesPendingStatus(void *handle, unsigned *pending) { return NOT_SUPPORTED; }
int nvmlDeviceGetRemappedRows(void *handle, unsigned *good, unsigned *bad, unsigned *pending, unsigned *failed) {
    *good = 1; *bad = 2; *pending = 1; *failed = 0;
    return number(handle) == 1 ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetVirtualizationMode(void *handle, unsigned *mode) { *mode = number(handle) == 4 ? 2 : 0; return OK; }
int nvmlDeviceGetGridLicensableFeatures_v4(void *handle, licensable_features *all) {
    all->count = 2;
    strcpy(all->features[0].product, "NVIDIA Virtual Applications");
    strcpy(all->features[1].product, "NVIDIA Virtual Compute Server");
    all->features[1].state = 1;
    return OK;
}
int nvmlDeviceGetMemoryAffinity(void *handle, unsigned words, unsigned long *nodes, unsigned scope) {
    nodes[words > 1] = 1ul << number(handle);
    return scope == 0 ? OK : INVALID_ARGUMENT;
}
int nvmlDeviceGetNvLinkState(void *handle, unsigned link, unsigned *active) {
    if (number(handle) == 4) return NOT_SUPPORTED;
    *active = link != 1;
    return link < 3 ? OK : INVALID_ARGUMENT;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *handle, unsigned link, pci_info *info) {
    strcpy(info->address, number(handle) == 1 ? "00000000:13:00.0" : "00000000:11:00.0");
    return OK;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(void *handle, unsigned link, unsigned *type) {
    *type = 0;
    return link == 0 ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetTopologyCommonAncestor(void *first, void *second, unsigned *level) { *level = 50; return OK; }
int nvmlDeviceGetP2PStatus(void *first, void *second, unsigned question, unsigned *status) {
    *status = number(second) == 4 ? 5 : 0;
    return question < 3 ? OK : INVALID_ARGUMENT;
}
int nvmlSystemGetConfComputeState(unsigned *state) { state[0] = 2; state[1] = 1; return OK; }
int nvmlSystemGetConfComputeSettings(unsigned *settings) {
    settings[4] = 0;
    return settings[0] == 0x1000014 ? OK : OLD_VERSION;
}
int nvmlSystemGetConfComputeGpusReadyState(unsigned *ready) { *ready = 0; return OK; }
