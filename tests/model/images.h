/*
 * Images for tests, small and whole, made and signed by mkimage when the tests are built
 * (make_images.py, which says what each is). Those called good are signed with the development
 * key, for the board "test".
 */
#ifndef TESTS_MODEL_IMAGES_H
#define TESTS_MODEL_IMAGES_H

#include <stdint.h>
#include "update/image.h"

#define TEST_IMAGE_BOARD "test"

struct test_image {
    const char *name;
    const uint8_t *bytes; /* 8-byte aligned */
    uint32_t len_bytes;
};

extern const struct test_image test_images[];
extern const uint32_t test_image_count;

/* The development key, whatever KEY= says, and one of which no build knows. */
extern const struct image_key test_image_key;
extern const struct image_key test_other_key;

#endif
