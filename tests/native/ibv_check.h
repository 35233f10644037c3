/*
 * The lists of tests that ibv_check.c runs.
 */
#ifndef NATIVE_IBV_CHECK_H
#define NATIVE_IBV_CHECK_H

#include "tests/native/ibv_pair.h"

struct check_test {
    const char *name; /* NULL ends a list */
    void (*run)(void);
};

extern const struct check_test check_object_tests[]; /* ibv_check_objects.c */
extern const struct check_test check_data_tests[];   /* ibv_check_data.c */
extern const struct check_test check_key_tests[];    /* ibv_check_keys.c */
extern const struct check_test check_cm_tests[];     /* ibv_check_cm.c */

struct rdma_device *check_device(void);
/* Asynchronous events of this kind in this test. */
uint32_t check_events(enum rdma_event_type type);

bool check_expect(bool condition, const char *what, int line);
#define EXPECT(condition) check_expect((condition), #condition, __LINE__)

#endif
