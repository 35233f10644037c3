/*
 * The bytes of a capture.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#include "boards/qemu-virt/fabric/fabric.h"

static void pcap_file_has_the_formats_bytes(void **state)
{
    (void)state;
    static const uint8_t want[] = {
        0x4d, 0x3c, 0xb2, 0xa1, 2,    0,    4,    0, /* nanoseconds, version 2.4 */
        0,    0,    0,    0,    0,    0,    0,    0,    0x00, 0x24, 0,
        0,    1,    0,    0,    0,                      /* 9216, Ethernet */
        0x15, 0xcd, 0x5b, 0x07, 0x15, 0xcd, 0x5b, 0x07, /* 123456789.123456789 s */
        3,    0,    0,    0,    3,    0,    0,    0,    0xaa, 0xbb, 0xcc,
    };
    char path[] = "/tmp/fabric-pcap-XXXXXX";
    uint8_t got[sizeof(want) + 1];

    close(mkstemp(path));
    FILE *file = fabric_pcap_open(path);
    assert_non_null(file);
    assert_int_equal(fabric_pcap_write(file, UINT64_C(123456789123456789), "\xaa\xbb\xcc", 3), 0);
    fclose(file);
    file = fopen(path, "rb");
    assert_int_equal(fread(got, 1, sizeof(got), file), sizeof(want));
    assert_memory_equal(got, want, sizeof(want));
    fclose(file);
    unlink(path);
}

static void pcap_file_that_cannot_be_made_is_none(void **state)
{
    (void)state;
    assert_null(fabric_pcap_open("/no/such/folder/x.pcap"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pcap_file_has_the_formats_bytes),
        cmocka_unit_test(pcap_file_that_cannot_be_made_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
