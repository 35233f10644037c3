/*
 * Images (FIT, spec/boot.h) on this side: what is in one, is it whole, who signed it. The board
 * judges for itself; this tells people why it would refuse.
 */
#ifndef SNICCTL_IMAGE_H
#define SNICCTL_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "fault.h"
#include "spec/boot.h"

#define IMAGE_MAX_BYTES BOOT_SLOT_MAX_BYTES

struct image_key {
    uint8_t modulus[512]; /* big endian */
    size_t modulus_bytes;
    uint8_t exponent[4];
};

struct image {
    const uint8_t *fit;
    size_t fit_bytes; /* as its head says */
    const uint8_t *data;
    size_t data_bytes;
    bool has_head;
    struct boot_image_head head; /* its texts end */
    bool has_hash;
    bool is_hash_good;
    uint8_t sha256[32];    /* of the data, as they are */
    const char *algorithm; /* of the signature; NULL: not signed */
    const char *key_name;  /* hint; NULL: none */
    const uint8_t *signature;
    size_t signature_bytes;
    const char *description; /* NULL: none */
};

/* Takes the FIT apart; *why says what is wrong with it when false. Pointers lead into `bytes`. */
bool image_parse(const uint8_t *bytes, size_t len_bytes, struct image *image, const char **why);

bool image_is_signed_by(const struct image *image, const struct image_key *key);

/* Reads an RSA key out of a PEM file, private or public half, by openssl(1). */
enum fault image_key_read(const char *path, struct image_key *key);

/* Takes the head of a flat image. */
bool image_head(const uint8_t *data, size_t len_bytes, struct boot_image_head *head);

/* Makes a FIT of the flat image by mkimage(1), signed by the key; NULL: not signed. */
enum fault image_make(const uint8_t *data, size_t len_bytes, const char *key, const char *out);

#endif
