/*
 * PCIe functions of the native board: each is a vfio-user server at FOLDER/cntrl with a link block
 * inside this process. A server has a thread of its own; the reactors see only struct pcie_ep.
 *
 * Host memory: each window is mapped into this process, so bus addresses are pointers. If the
 * firmware does not acknowledge a fence in time, anonymous memory takes the place of all windows of
 * the function before the host is answered. The same happens to a window whose file the client cut
 * short.
 */
#ifndef NATIVE_PCIE_EP_NATIVE_H
#define NATIVE_PCIE_EP_NATIVE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/limits.h"
#include "hal/pcie_ep.h"

struct pcie_ep_native_options {
    bool trapped; /* doorbells wake the cores, one message each; default: mapped, the cores poll */
    uint8_t
        dstrd; /* CAP.DSTRD of the straps: 0..4. 4 gives each doorbell a cache line of its own */
};

/* Opens `count` functions (1..LIMIT_FUNCTIONS), one in each folder (made if it is not there), and
 * fills eps[0..count). Once, on core 0, before any reactor runs. 0 or -errno, with a log line. */
int pcie_ep_native_start(const char *const *folders, uint32_t count,
                         const struct pcie_ep_native_options *options, struct pcie_ep **eps);

/* Ends the servers and lets go of all host memory. Once the reactors have stopped. */
void pcie_ep_native_stop(void);

#endif
