#include "fabric/rig.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct fabric fabric;
struct rig rig;

static const char *const names[RIG_STATIONS] = {"a.eth", "b.eth", "c.eth"};
static char answer[65536];

void rig_station_come(uint32_t station)
{
    struct sockaddr_un address;

    assert_true(fabric_address(&address, rig.dir, names[station]));
    unlink(address.sun_path);
    rig.fd[station] = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_true(rig.fd[station] >= 0);
    assert_int_equal(bind(rig.fd[station], (struct sockaddr *)&address, sizeof(address)), 0);
}

void rig_station_go(uint32_t station)
{
    close(rig.fd[station]);
    rig.fd[station] = -1;
}

int rig_setup(void **state)
{
    (void)state;
    strcpy(rig.dir, "/tmp/fabric-test-XXXXXX");
    assert_non_null(mkdtemp(rig.dir));
    assert_int_equal(fabric_open(&fabric, rig.dir, 1, names, RIG_STATIONS), 0);
    for (uint32_t i = 0; i < RIG_STATIONS; i++) {
        rig_station_come(i);
    }
    return 0;
}

int rig_teardown(void **state)
{
    char command[80];

    (void)state;
    fabric_close(&fabric);
    for (uint32_t i = 0; i < RIG_STATIONS; i++) {
        if (rig.fd[i] >= 0) {
            rig_station_go(i);
        }
    }
    snprintf(command, sizeof(command), "rm -r %s", rig.dir);
    return system(command) == 0 && fabric.pool.free.count == FABRIC_FRAMES ? 0 : -1;
}

void rig_turn(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        fabric_turn(&fabric, 0);
    }
}

static void mac_of(uint8_t *mac, uint32_t station)
{
    memset(mac, station == RIG_STATIONS ? 0xff : 0, 6);
    if (station < RIG_STATIONS) {
        mac[0] = 0x52;
        mac[5] = (uint8_t)station;
    }
}

bool rig_send_raw(uint32_t from, const void *bytes, uint32_t len)
{
    struct sockaddr_un address;
    char name[32];

    snprintf(name, sizeof(name), "%s.switch", names[from]);
    assert_true(fabric_address(&address, rig.dir, name));
    return sendto(rig.fd[from], bytes, len, 0, (struct sockaddr *)&address, sizeof(address)) ==
           (ssize_t)len;
}

void rig_send(uint32_t from, uint32_t to, uint32_t number, uint32_t len)
{
    uint8_t frame[FABRIC_FRAME_BYTES] = {0};

    assert_in_range(len, 18, sizeof(frame));
    mac_of(frame, to);
    mac_of(frame + 6, from);
    memcpy(frame + 14, &number, sizeof(number));
    memset(frame + 18, (int)(number & 0xff), len - 18);
    assert_true(rig_send_raw(from, frame, len));
    rig_turn(2);
}

int64_t rig_next(uint32_t station, uint32_t *len)
{
    uint32_t number;
    ssize_t got = recv(rig.fd[station], rig.got, sizeof(rig.got), 0);

    if (got < 0) {
        return -1;
    }
    assert_true(got >= 18);
    if (len != NULL) {
        *len = (uint32_t)got;
    }
    memcpy(&number, rig.got + 14, sizeof(number));
    return number;
}

bool rig_command(const char *line)
{
    char copy[CTL_LINE_BYTES];

    snprintf(copy, sizeof(copy), "%s", line);
    fabric_cmd(&fabric, copy, answer, sizeof(answer));
    size_t len = strlen(answer);
    assert_true(len >= 3 && answer[len - 1] == '\n');
    bool ok = len >= 3 && strcmp(answer + len - 3, "ok\n") == 0;
    assert_true(ok || strncmp(answer, "error: ", 7) == 0);
    return ok;
}

uint64_t rig_status(const char *name)
{
    char pattern[80];

    assert_true(rig_command("status"));
    snprintf(pattern, sizeof(pattern), "\n%s ", name);
    const char *found = strstr(answer, pattern);
    assert_non_null(found);
    return strtoull(found + strlen(pattern), NULL, 10);
}
