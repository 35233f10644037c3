/* The host's function and memory, as the endpoint's unit tests have them. */
#include "tests/sim/path/path.h"

#include "tests/unit/nvme_ep/rig.c"
#include "tests/unit/nvme_ep/rig_host.c"
