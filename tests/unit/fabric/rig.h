/*
 * A switch with stations that are sockets of the test, all in one thread.
 */
#ifndef TESTS_UNIT_FABRIC_RIG_H
#define TESTS_UNIT_FABRIC_RIG_H

#include "boards/qemu-virt/fabric/fabric.h"

#define RIG_STATIONS 3

struct rig {
    char dir[64];
    int fd[RIG_STATIONS]; /* -1: away */
    uint8_t got[FABRIC_FRAME_BYTES + 1];
};

extern struct fabric fabric; /* the one under test */
extern struct rig rig;

int rig_setup(void **state);
/* Every buffer is back. */
int rig_teardown(void **state);
/* The station binds its socket, or goes away and leaves the file. */
void rig_station_come(uint32_t station);
void rig_station_go(uint32_t station);
/* A frame of `len` bytes from one station to the other's address (RIG_STATIONS: to all); `number`
 * is its content. The switch turns. */
void rig_send(uint32_t from, uint32_t to, uint32_t number, uint32_t len);
/* `len` bytes as they are; true if the switch's socket took them. */
bool rig_send_raw(uint32_t from, const void *bytes, uint32_t len);
void rig_turn(uint32_t count);
/* The number in the next frame that the station got; -1: there is none. */
int64_t rig_next(uint32_t station, uint32_t *len);
/* One command without its end of line; true if it was answered "ok". */
bool rig_command(const char *line);
/* The number that status has for `name`. */
uint64_t rig_status(const char *name);

#endif
