#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hal/pcie_ep.h"

/* Three windows: read-write, read-only, write-only; between the first two there is no gap. */
static struct pcie_ep_view view;

static int setup(void **state)
{
    (void)state;
    view = (struct pcie_ep_view){
        .window_count = 3,
        .windows = {{0x1000, 0x2000, 0x9000000, true, true},
                    {0x3000, 0x1000, 0x9100000, true, false},
                    {UINT64_MAX - 0xfff, 0x1000, 0x9200000, false, true}},
    };
    return 0;
}

static void pcie_ep_map_inside_gives_the_bus_address(void **state)
{
    (void)state;
    assert_int_equal(pcie_ep_map(&view, 0x1000, 0x2000, true), 0x9000000);
    assert_int_equal(pcie_ep_map(&view, 0x2fff, 1, false), 0x9001fff);
    assert_int_equal(view.last_hit, 0);
    assert_int_equal(pcie_ep_map(&view, 0x3010, 16, false), 0x9100010);
    assert_int_equal(view.last_hit, 1);
    assert_int_equal(pcie_ep_map(&view, UINT64_MAX - 0xff, 0x100, true), 0x9200f00);
    assert_int_equal(view.last_hit, 2);
}

static void pcie_ep_map_outside_gives_none(void **state)
{
    (void)state;
    assert_int_equal(pcie_ep_map(&view, 0xfff, 1, false), PCIE_EP_NO_ADDR);
    assert_int_equal(pcie_ep_map(&view, 0x4000, 1, false), PCIE_EP_NO_ADDR);
    assert_int_equal(pcie_ep_map(&view, 0xfff, 2, false), PCIE_EP_NO_ADDR);
    assert_int_equal(pcie_ep_map(&view, 0, 1, false), PCIE_EP_NO_ADDR);
}

static void pcie_ep_map_across_the_end_gives_none(void **state)
{
    (void)state;
    assert_int_equal(pcie_ep_map(&view, 0x2ff0, 0x11, false), PCIE_EP_NO_ADDR);
    assert_int_equal(pcie_ep_map(&view, UINT64_MAX - 0xf, 0x11, true), PCIE_EP_NO_ADDR);
    assert_int_equal(pcie_ep_map(&view, 0x1000, UINT32_MAX, true), PCIE_EP_NO_ADDR);
}

static void pcie_ep_map_forbidden_direction_gives_none(void **state)
{
    (void)state;
    assert_int_equal(pcie_ep_map(&view, 0x3000, 16, true), PCIE_EP_NO_ADDR);
    assert_int_equal(pcie_ep_map(&view, UINT64_MAX - 0xfff, 16, false), PCIE_EP_NO_ADDR);
}

static void pcie_ep_map_empty_view_gives_none(void **state)
{
    (void)state;
    struct pcie_ep_view none = {0};
    assert_int_equal(pcie_ep_map(&none, 0, 1, false), PCIE_EP_NO_ADDR);
    assert_int_equal(pcie_ep_map(&none, UINT64_MAX, UINT32_MAX, true), PCIE_EP_NO_ADDR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(pcie_ep_map_inside_gives_the_bus_address, setup),
        cmocka_unit_test_setup(pcie_ep_map_outside_gives_none, setup),
        cmocka_unit_test_setup(pcie_ep_map_across_the_end_gives_none, setup),
        cmocka_unit_test_setup(pcie_ep_map_forbidden_direction_gives_none, setup),
        cmocka_unit_test_setup(pcie_ep_map_empty_view_gives_none, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
