/*
 * Images: U-Boot's FIT as `mkimage` makes it, of which the part below is used.
 *
 *   /images/firmware         data: the flat image, which starts with its own heads (spec/boot.h)
 *     hash-1                 algo "sha256", value
 *     signature-1            algo "sha256,rsa2048", key-name-hint, value: PKCS #1 v1.5 of the data
 *
 * The signature covers the data alone, so that nothing else in the tree is believed: board, version
 * and load address come from the head inside of the data. Everything is hostile until
 * image_check() says OK. Leaves out: configurations' signatures, external data, compression,
 * several keys. Uses base, spec, libfdt, BearSSL; no state. Any core.
 */
#ifndef UPDATE_IMAGE_H
#define UPDATE_IMAGE_H

#include <bearssl/bearssl_hash.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "spec/boot.h"

/* RSA-2048, big endian, and its exponent. */
struct image_key {
    uint8_t modulus[256];
    uint8_t exponent[3];
    bool is_development; /* its private half is in the source tree */
};

/* The key that this build trusts; made by the build from a PEM file. */
extern const struct image_key image_build_key;

struct image_rules {
    const struct image_key *key;
    const char *board;             /* that the head must name */
    uint32_t min_security_version; /* of the head */
};

struct image_info {
    const uint8_t *data; /* in the FIT */
    uint32_t data_bytes;
    struct boot_image_head head; /* a copy; its strings end */
};

/* Why an image is refused. */
enum image_fault {
    IMAGE_OK,
    IMAGE_CUT,           /* shorter than its own size says, or longer than allowed */
    IMAGE_NO_FIT,        /* no device tree, or a broken one */
    IMAGE_NO_DATA,       /* a node or property of the list above is missing or has a wrong length */
    IMAGE_BAD_HASH,      /* SHA-256 differs: damaged */
    IMAGE_NOT_SIGNED,    /* no signature of the algorithm above */
    IMAGE_BAD_SIGNATURE, /* by another key, or none at all */
    IMAGE_BAD_HEAD,      /* signed, but what it says cannot be */
    IMAGE_OTHER_BOARD,
    IMAGE_TOO_OLD, /* below min_security_version */
    IMAGE_FAULT_COUNT,
};

/* A sentence for people, without full stop: "is signed by another key". */
const char *image_fault_text(enum image_fault fault);

/* Checks the FIT at `fit`, 8-byte aligned, of which `len_bytes` may be read; fills in *info (which
 * points into the FIT) when IMAGE_OK; for the last two faults head is filled in, too. */
MUST_USE enum image_fault image_check(const void *fit, uint32_t len_bytes,
                                      const struct image_rules *rules, struct image_info *info);

/* The same in steps, none of which is long but the last (the signature's, some 3 million
 * instructions). The struct is the caller's; what it is started with stays until the end. */
#define IMAGE_STEP_BYTES 4096u

struct image_checker {
    const void *fit;
    const struct image_rules *rules;
    struct image_info *info;
    enum image_fault fault; /* the result */
    int node;
    const uint8_t *data;
    uint32_t data_bytes;
    uint32_t hashed_bytes;
    br_sha256_context sha;
};

void image_check_start(struct image_checker *checker, const void *fit, uint32_t len_bytes,
                       const struct image_rules *rules, struct image_info *info);
/* False: that was the last one. */
bool image_check_step(struct image_checker *checker);

/* Total bytes that the FIT at `fit` says it has, of which 8 bytes may be read; 0: it is none. */
uint32_t image_fit_bytes(const void *fit);

#endif
