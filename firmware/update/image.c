/*
 * Checks an image in the order in which it becomes believable: its size, the tree, the hash (which
 * tells damage from forgery), the signature, and only then what the signed data says of itself.
 * Sources: docs/spec/boot.md; U-Boot's doc/uImage.FIT; RFC 8017 8.2.2.
 */
#include "update/image.h"

#include <bearssl/bearssl_hash.h>
#include <bearssl/bearssl_rsa.h>
#include <libfdt.h>
#include <string.h>
#include "base/bits.h"
#include "base/endian.h"

/* Of the flattened form. Versions before have names without an end in sight, on which libfdt's
 * check stumbles. */
#define TREE_VERSION 17

#define HASH_BYTES      32u
#define SIGNATURE_BYTES 256u

/* Addresses of images: pages, below what 48 bits reach. */
#define LOAD_ALIGN_BYTES 4096u
#define ADDR_END         BIT64(48)

const char *image_fault_text(enum image_fault fault)
{
    static const char *const texts[IMAGE_FAULT_COUNT] = {
        [IMAGE_OK] = "is good",
        [IMAGE_CUT] = "is cut, or too long",
        [IMAGE_NO_FIT] = "is no FIT image",
        [IMAGE_NO_DATA] = "lacks a part that it must have",
        [IMAGE_BAD_HASH] = "is damaged",
        [IMAGE_NOT_SIGNED] = "is not signed",
        [IMAGE_BAD_SIGNATURE] = "is signed by another key",
        [IMAGE_BAD_HEAD] = "has a head that cannot be",
        [IMAGE_OTHER_BOARD] = "is for another board",
        [IMAGE_TOO_OLD] = "has a security version that is no longer allowed",
    };

    return (uint32_t)fault < IMAGE_FAULT_COUNT ? texts[fault] : "is refused";
}

uint32_t image_fit_bytes(const void *fit)
{
    const fdt32_t *words = fit; /* magic, totalsize */
    uint32_t bytes = fdt32_ld(&words[1]);

    return fdt32_ld(&words[0]) == FDT_MAGIC && bytes >= sizeof(struct fdt_header) ? bytes : 0;
}

static enum image_fault check_tree(const void *fit, uint32_t len_bytes)
{
    if (len_bytes < sizeof(struct fdt_header)) {
        return IMAGE_CUT;
    }
    uint32_t bytes = image_fit_bytes(fit);
    if (bytes == 0) {
        return IMAGE_NO_FIT;
    }
    if (bytes > len_bytes || bytes > BOOT_SLOT_MAX_BYTES) {
        return IMAGE_CUT;
    }
    return fdt_check_header(fit) == 0 && fdt_version(fit) >= TREE_VERSION &&
                   fdt_check_full(fit, bytes) == 0
               ? IMAGE_OK
               : IMAGE_NO_FIT;
}

/* Is the property of the node just this string? */
static bool has_text(const void *fit, int node, const char *name, const char *text)
{
    int len_bytes;
    const void *value = fdt_getprop(fit, node, name, &len_bytes);

    return value != NULL && (size_t)len_bytes == strlen(text) + 1 &&
           memcmp(value, text, (size_t)len_bytes) == 0;
}

/* The `value` of a node of that name and algorithm; NULL: none of that length. */
static const uint8_t *value_of(const void *fit, int image, const char *name, const char *algo,
                               uint32_t value_bytes)
{
    int node = fdt_subnode_offset(fit, image, name);
    int len_bytes = -1;

    if (node < 0 || !has_text(fit, node, "algo", algo)) {
        return NULL;
    }
    const uint8_t *value = fdt_getprop(fit, node, "value", &len_bytes);
    return value != NULL && (uint32_t)len_bytes == value_bytes ? value : NULL;
}

static bool is_signed(const uint8_t *signature, const uint8_t *hash, const struct image_key *key)
{
    struct image_key copy = *key; /* (the library takes no const) */
    br_rsa_public_key public_key = {.n = copy.modulus,
                                    .nlen = sizeof(copy.modulus),
                                    .e = copy.exponent,
                                    .elen = sizeof(copy.exponent)};
    uint8_t said[HASH_BYTES];

    return br_rsa_i31_pkcs1_vrfy(signature, SIGNATURE_BYTES, BR_HASH_OID_SHA256, sizeof(said),
                                 &public_key, said) == 1 &&
           memcmp(said, hash, sizeof(said)) == 0;
}

/* A string that is there and ends. */
static bool is_text(const char *text, size_t max_bytes)
{
    return text[0] != '\0' && memchr(text, '\0', max_bytes) != NULL;
}

static bool is_head_sane(const struct boot_image_head *head, uint32_t data_bytes)
{
    return head->magic == BOOT_IMAGE_HEAD_MAGIC && head->head_version == BOOT_IMAGE_HEAD_VERSION &&
           head->load_bytes == data_bytes && head->run_bytes >= head->load_bytes &&
           is_aligned(head->load_addr, LOAD_ALIGN_BYTES) &&
           range_fits(head->load_addr, head->run_bytes, ADDR_END) &&
           is_text(head->board, sizeof(head->board)) &&
           is_text(head->version, sizeof(head->version));
}

/* What the signed data says. */
static enum image_fault check_head(const struct image_rules *rules, struct image_info *info)
{
    struct boot_image_head head;

    memcpy(&head, info->data + BOOT_IMAGE_HEAD_OFFSET, sizeof(head));
    if (!is_head_sane(&head, info->data_bytes)) {
        return IMAGE_BAD_HEAD;
    }
    info->head = head;
    if (strcmp(head.board, rules->board) != 0) {
        return IMAGE_OTHER_BOARD;
    }
    return head.security_version < rules->min_security_version ? IMAGE_TOO_OLD : IMAGE_OK;
}

static enum image_fault check_data(const void *fit, const struct image_rules *rules,
                                   struct image_info *info)
{
    uint8_t hash[HASH_BYTES];
    int len_bytes;
    int image = fdt_path_offset(fit, "/images/firmware");
    const uint8_t *data = image < 0 ? NULL : fdt_getprop(fit, image, "data", &len_bytes);

    if (data == NULL ||
        (uint32_t)len_bytes < BOOT_IMAGE_HEAD_OFFSET + sizeof(struct boot_image_head)) {
        return IMAGE_NO_DATA;
    }
    const uint8_t *hash_said = value_of(fit, image, "hash-1", "sha256", HASH_BYTES);
    if (hash_said == NULL) {
        return IMAGE_NO_DATA;
    }
    br_sha256_context sha;
    br_sha256_init(&sha);
    br_sha256_update(&sha, data, (size_t)len_bytes);
    br_sha256_out(&sha, hash);
    if (memcmp(hash, hash_said, sizeof(hash)) != 0) {
        return IMAGE_BAD_HASH;
    }
    const uint8_t *signature =
        value_of(fit, image, "signature-1", "sha256,rsa2048", SIGNATURE_BYTES);
    if (signature == NULL) {
        return IMAGE_NOT_SIGNED;
    }
    if (!is_signed(signature, hash, rules->key)) {
        return IMAGE_BAD_SIGNATURE;
    }
    info->data = data;
    info->data_bytes = (uint32_t)len_bytes;
    return check_head(rules, info);
}

enum image_fault image_check(const void *fit, uint32_t len_bytes, const struct image_rules *rules,
                             struct image_info *info)
{
    memset(info, 0, sizeof(*info));
    enum image_fault fault = check_tree(fit, len_bytes);
    if (fault == IMAGE_OK) {
        fault = check_data(fit, rules, info);
    }
    if (fault != IMAGE_OK) {
        info->data = NULL;
        info->data_bytes = 0;
    }
    return fault;
}
