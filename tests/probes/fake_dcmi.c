/* A stand-in for libdcmi.so, generation 1 or 2 (-DGENERATION). Layouts are those of hicann/driver's public header.

   Generation 1: card 0 is an A3 card with two dies and a controller; card 5 is one 910B3 of which HBM, health and
   identity cannot be read, and whose bus address is not told; card 6 does not tell its chips; card 7 has no HBM at all.
   Generation 2: a 950 on PCIe, one on a server without PCIe, one whose HBM answer is longer than the header says. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct chip_info {
    unsigned char type[32], name[32], version[32];
    unsigned int cores;
    unsigned char npu_name[32];
};
struct pci_info {
    unsigned int vendor, subsystem_vendor, device, subsystem_device;
    int domain;
    unsigned int bus, slot, function;
    unsigned char reserve[32];
};
struct hbm_info {
    unsigned long long size;
    unsigned int clock;
    unsigned long long used;
    int temperature;
    unsigned int bandwidth;
};
struct memory_info {
    unsigned long long size, available;
    unsigned int clock;
    unsigned long page_size, pages, free_pages;
    unsigned int usage;
    unsigned char reserve[60];
};

enum { OK = 0, INNER = -8005, TIMEOUT = -8006, HELD = -8020, NOT_SUPPORTED = -8255 };

static int chip(struct chip_info *info, const char *name, const char *npu_name) {
    strcpy((char *)info->type, "Ascend");
    strcpy((char *)info->name, name);
    strcpy((char *)info->npu_name, npu_name);
    info->cores = 24;
    return OK;
}

static int pci(struct pci_info *info, unsigned int device, unsigned int bus) {
    info->vendor = 0x19e5;
    info->device = device;
    info->bus = bus;
    return OK;
}

#ifndef INIT_RESULT
#define INIT_RESULT OK
#endif

#if GENERATION == 1

int dcmi_init(void) {
    printf("DrvMngGetConsoleLogLevel failed. (ret=4)\n"); /* as the driver's libraries do, on standard output */
    fflush(stdout);
    return INIT_RESULT;
}
int dcmi_get_driver_version(char *text, unsigned int length) { strcpy(text, "25.5.2"); return OK; }
int dcmi_get_card_list(int *count, int *list, int length) {
    int cards[] = {0, 5, 6, 7};
    memcpy(list, cards, sizeof cards);
    *count = 4;
    return OK;
}
int dcmi_get_device_num_in_card(int card, int *count) {
    if (card == 6) return TIMEOUT;
    *count = card == 0 ? 3 : 1;
    return OK;
}
int dcmi_get_device_type(int card, int device, int *type) {
    if (card == 5) return TIMEOUT;
    *type = device == 2 ? 1 : 0;
    return OK;
}
int dcmi_get_device_chip_info_v2(int card, int device, struct chip_info *info) {
    if (card == 0) return chip(info, "Ascend910", "9392");
    return card == 7 ? chip(info, "310P3", "") : chip(info, "910B3", "NA");
}
int dcmi_get_device_health(int card, int device, unsigned int *health) {
    if (card == 5) return NOT_SUPPORTED;
    *health = device == 1 ? 2 : 0;
    return OK;
}
int dcmi_get_device_hbm_info(int card, int device, struct hbm_info *info) {
    if (card == 5) return TIMEOUT;
    if (card == 7) return NOT_SUPPORTED;
    info->size = 65536;
    info->used = 3133 + (unsigned)device;
    return OK;
}
int dcmi_get_device_memory_info_v3(int card, int device, struct memory_info *info) {
    memset(info, 0xff, sizeof *info);
    info->size = 44280;
    return OK;
}
int dcmi_get_device_pcie_info_v2(int card, int device, struct pci_info *info) {
    if (card == 5) return NOT_SUPPORTED;
    return pci(info, card == 7 ? 0xd500 : 0xd803, 0x9c + 2 * (unsigned)device + (unsigned)card);
}
int dcmi_get_device_board_id(int card, int device, unsigned int *board) { *board = card == 5 ? 0x37 : 0xb0; return OK; }
int dcmi_get_device_compatibility(int card, int device, int *value) { *value = card == 0 ? 1 : 2; return OK; }
int dcmi_get_device_logic_id(int *logical, int card, int device) {
    if (card == 5) return TIMEOUT;
    *logical = card == 0 ? device : 3;
    return OK;
}
int dcmi_get_device_phyid_from_logicid(unsigned int logical, unsigned int *physical) { *physical = logical + 8; return OK; }

#else

int dcmi_init(void) { return NOT_SUPPORTED; }
int dcmiv2_init(void) { return INIT_RESULT; }
/* No dcmiv2_get_driver_version: early drivers of this generation lack it. */
int dcmiv2_get_device_list(int *list, int *count, int length) {
    *count = 3;
    for (int device = 0; device < 3; device++) list[device] = device;
    return OK;
}
int dcmiv2_get_device_type(int device, int *type) { *type = 0; return OK; }
int dcmiv2_get_device_chip_info(int device, struct chip_info *info) { return chip(info, "Ascend950PR", "9579"); }
int dcmiv2_get_device_health(int device, unsigned int *health) { *health = 0xffffffffu; return OK; }
int dcmiv2_get_device_hbm_info(int device, struct hbm_info *info) {
    if (device == 2) memset(info, 0, sizeof *info + 512);
    info->size = device == 1 ? 0 : 131072;
    info->used = 5239;
    return OK;
}
int dcmiv2_get_device_pcie_info(int device, struct pci_info *info) { return device == 0 ? pci(info, 0xd806, 0x61) : OK; }
int dcmiv2_get_device_board_id(int device, unsigned int *board) { return NOT_SUPPORTED; }
int dcmiv2_get_device_compatibility(int device, int *value) { *value = 3; return OK; }
int dcmiv2_get_chip_phy_id_by_dev_id(int device, unsigned int *physical) { *physical = (unsigned)device + 1; return OK; }

#endif
