#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define MMIO_MOCK
#include "hal/drivers/pl011.c"

static struct {
    uint32_t rx[RX_BURST + 100]; /* data register values that wait */
    uint32_t rx_count;
    uint32_t rx_at;
    char tx[64];
    uint32_t tx_count;
    uint32_t room; /* bytes that the transmitter takes before it is full for ever */
    uint32_t mask;
} fake;

static struct pl011 uart;

uint64_t mmio_mock_read(uintptr_t address, unsigned bits)
{
    assert_int_equal(bits, 32);
    if (address == 0x1000 + REG_FR) {
        return (fake.rx_at == fake.rx_count ? FR_RXFE : 0) |
               (fake.tx_count >= fake.room ? FR_TXFF : 0);
    }
    assert_int_equal(address, 0x1000 + REG_DR);
    return fake.rx[fake.rx_at++];
}

void mmio_mock_write(uintptr_t address, unsigned bits, uint64_t value)
{
    assert_int_equal(bits, 32);
    if (address == 0x1000 + REG_DR) {
        assert_true(fake.tx_count < fake.room);
        fake.tx[fake.tx_count++] = (char)value;
    } else if (address == 0x1000 + REG_IMSC) {
        fake.mask = (uint32_t)value;
    }
}

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    memset(&uart, 0, sizeof(uart));
    fake.room = sizeof(fake.tx);
    pl011_init(&uart, 0x1000);
    return 0;
}

static void arrive(const char *bytes)
{
    for (; *bytes != '\0'; bytes++) {
        fake.rx[fake.rx_count++] = (uint8_t)*bytes;
    }
}

static void pl011_write_sends_all_bytes(void **state)
{
    (void)state;
    pl011_write(&uart, "hello", 5);
    assert_int_equal(fake.tx_count, 5);
    assert_memory_equal(fake.tx, "hello", 5);
}

static void pl011_write_stuck_line_drops_after_one_timeout(void **state)
{
    (void)state;
    fake.room = 2;
    uint64_t start_ns = clock_now_ns();
    pl011_write(&uart, "hello, world, this is longer", 28);
    uint64_t elapsed_ns = clock_now_ns() - start_ns;
    assert_int_equal(fake.tx_count, 2);
    assert_true(elapsed_ns >= PL011_BYTE_TIMEOUT_NS);
    assert_true(elapsed_ns < 10 * PL011_BYTE_TIMEOUT_NS);
}

static void pl011_read_returns_bytes_in_order_then_none(void **state)
{
    (void)state;
    pl011_rx_enable(&uart);
    assert_int_equal(fake.mask, INT_RX | INT_RT);
    assert_int_equal(pl011_read(&uart), -1);
    arrive("ab");
    pl011_interrupt(&uart);
    assert_int_equal(pl011_read(&uart), 'a');
    assert_int_equal(pl011_read(&uart), 'b');
    assert_int_equal(pl011_read(&uart), -1);
}

static void pl011_interrupt_full_ring_counts_what_is_lost(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < PL011_RX_BYTES + 10; i++) {
        arrive("x");
    }
    while (fake.rx_at < fake.rx_count) {
        pl011_interrupt(&uart);
    }
    assert_int_equal(uart.rx_lost_count, 10);
    for (uint32_t i = 0; i < PL011_RX_BYTES; i++) {
        assert_int_equal(pl011_read(&uart), 'x');
    }
    assert_int_equal(pl011_read(&uart), -1);
}

static void pl011_interrupt_line_error_drops_the_byte(void **state)
{
    (void)state;
    fake.rx[fake.rx_count++] = 0x100 | 'a'; /* framing error */
    arrive("b");
    pl011_interrupt(&uart);
    assert_int_equal(pl011_read(&uart), 'b');
    assert_int_equal(uart.rx_lost_count, 1);
}

static bool take_digits(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static void pl011_interrupt_shows_bytes_to_take_first(void **state)
{
    (void)state;
    uart.rx_take = take_digits;
    fake.rx[fake.rx_count++] = 0x100 | '1'; /* a framing error is shown to nobody */
    arrive("a1b23c");
    pl011_interrupt(&uart);
    assert_int_equal(uart.rx_lost_count, 1);
    assert_int_equal(pl011_read(&uart), 'a');
    assert_int_equal(pl011_read(&uart), 'b');
    assert_int_equal(pl011_read(&uart), 'c');
    assert_int_equal(pl011_read(&uart), -1);
}

static void pl011_interrupt_full_ring_still_shows_bytes(void **state)
{
    (void)state;
    uart.rx_take = take_digits;
    for (uint32_t i = 0; i < PL011_RX_BYTES; i++) {
        arrive("x");
    }
    arrive("12345");
    while (fake.rx_at < fake.rx_count) {
        pl011_interrupt(&uart);
    }
    assert_int_equal(uart.rx_lost_count, 0);
}

static void pl011_interrupt_endless_input_is_bounded(void **state)
{
    (void)state;
    fake.rx_count = RX_BURST + 100;
    pl011_interrupt(&uart);
    assert_int_equal(fake.rx_at, RX_BURST);
}

static void pl011_read_takes_what_did_not_interrupt(void **state)
{
    (void)state;
    arrive("left");
    assert_int_equal(pl011_read(&uart), 'l');
    arrive("x"); /* not looked for while there is something */
    assert_int_equal(pl011_read(&uart), 'e');
    assert_int_equal(fake.rx_at, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(pl011_write_sends_all_bytes, setup),
        cmocka_unit_test_setup(pl011_write_stuck_line_drops_after_one_timeout, setup),
        cmocka_unit_test_setup(pl011_read_returns_bytes_in_order_then_none, setup),
        cmocka_unit_test_setup(pl011_interrupt_full_ring_counts_what_is_lost, setup),
        cmocka_unit_test_setup(pl011_interrupt_line_error_drops_the_byte, setup),
        cmocka_unit_test_setup(pl011_interrupt_shows_bytes_to_take_first, setup),
        cmocka_unit_test_setup(pl011_interrupt_full_ring_still_shows_bytes, setup),
        cmocka_unit_test_setup(pl011_interrupt_endless_input_is_bounded, setup),
        cmocka_unit_test_setup(pl011_read_takes_what_did_not_interrupt, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
