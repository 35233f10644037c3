/*
 * Fuzzes the check of images. The bytes are a FIT as it arrives if they begin as one does (0xd0);
 * else the first says which of the tests' images (tests/model/images.h), and the others are edits
 * of it: offset, two bytes, and what to XOR; an offset beyond the image cuts it.
 *
 * What must hold: no stray access, no failed assertion; what is OK is data that was signed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"
#include "base/bits.h"
#include "tests/model/images.h"

static bool is_signed_data(const struct image_info *info)
{
    bool is_known = false;

    for (uint32_t i = 0; i < test_image_count && !is_known; i++) {
        const struct test_image *image = &test_images[i];
        for (uint32_t at = 0; at + info->data_bytes <= image->len_bytes && !is_known; at += 4) {
            is_known = strncmp(image->name, "good", 4) == 0 &&
                       memcmp(image->bytes + at, info->data, info->data_bytes) == 0;
        }
    }
    return is_known;
}

static void check(const uint8_t *fit, uint32_t len_bytes, uint32_t min_security_version)
{
    const struct image_rules rules = {.key = &test_image_key,
                                      .board = TEST_IMAGE_BOARD,
                                      .min_security_version = min_security_version};
    struct image_info info;
    enum image_fault fault = image_check(fit, len_bytes, &rules, &info);

    ASSERT(fault < IMAGE_FAULT_COUNT && image_fault_text(fault) != NULL);
    ASSERT((fault == IMAGE_OK) == (info.data != NULL));
    if (fault == IMAGE_OK) {
        ASSERT(info.data > fit &&
               range_fits((uint64_t)(info.data - fit), info.data_bytes, len_bytes));
        ASSERT(info.head.load_bytes == info.data_bytes);
        ASSERT(info.head.security_version >= min_security_version);
        ASSERT(is_signed_data(&info));
    }
}

/* Applies the edits; what is left of the image. */
static uint32_t edit(uint8_t *fit, uint32_t fit_bytes, const uint8_t *edits, size_t len)
{
    uint32_t left_bytes = fit_bytes;

    for (; len >= 3; edits += 3, len -= 3) {
        uint32_t offset = (uint32_t)(edits[0] << 8 | edits[1]);
        if (offset < left_bytes) {
            fit[offset] ^= edits[2];
        } else {
            left_bytes = offset % (left_bytes + 1);
        }
    }
    return left_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static _Alignas(8) uint8_t fit[65536];
    uint32_t fit_bytes = (uint32_t)len;

    if (len == 0 || len > sizeof(fit)) {
        return 0;
    }
    if (bytes[0] == 0xd0) {
        memcpy(fit, bytes, len);
    } else {
        const struct test_image *image = &test_images[bytes[0] % test_image_count];
        memcpy(fit, image->bytes, image->len_bytes);
        fit_bytes = edit(fit, image->len_bytes, bytes + 1, len - 1);
    }
    uint8_t *exact = malloc(fit_bytes); /* of just its length */
    ASSERT(exact != NULL || fit_bytes == 0);
    memcpy(exact, fit, fit_bytes);
    check(exact, fit_bytes, bytes[len - 1] % 3u);
    free(exact);
    return 0;
}
