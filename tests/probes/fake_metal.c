/* A stand-in for Metal and the Objective-C runtime in one library: a device of which every message is a string.
   Built with -DNO_DEVICE there is none. Numbers are those of a published Mac Studio. */
#include <stdint.h>
#include <string.h>

static int device;
static const char *name = "Apple M3 Ultra";

void *MTLCreateSystemDefaultDevice(void) {
#ifdef NO_DEVICE
    return 0;
#else
    return &device;
#endif
}
const char *sel_registerName(const char *text) { return text; }
uint64_t objc_msgSend(void *receiver, const char *selector) {
    if (receiver == &device && !strcmp(selector, "recommendedMaxWorkingSetSize")) return 239143485440u;
    if (receiver == &device && !strcmp(selector, "hasUnifiedMemory")) return 1;
    if (receiver == &device && !strcmp(selector, "name")) return (uint64_t)&name;
    if (receiver == &name && !strcmp(selector, "UTF8String")) return (uint64_t)name;
    return 0;
}
