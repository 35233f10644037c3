/*
 * Checks an image in the order in which it becomes believable: its size, the tree, the hash (which
 * tells damage from forgery), the signature, and only then what the signed data says of itself.
 * Sources: docs/spec/boot.md; U-Boot's doc/uImage.FIT; RFC 8017 8.2.2.
 */
#include "update/image.h"

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

/* Finds the data; what of it must be there. */
static enum image_fault find_data(struct image_checker *checker)
{
    int len_bytes = -1;

    checker->node = fdt_path_offset(checker->fit, "/images/firmware");
    checker->data =
        checker->node < 0 ? NULL : fdt_getprop(checker->fit, checker->node, "data", &len_bytes);
    if (checker->data == NULL ||
        (uint32_t)len_bytes < BOOT_IMAGE_HEAD_OFFSET + sizeof(struct boot_image_head) ||
        value_of(checker->fit, checker->node, "hash-1", "sha256", HASH_BYTES) == NULL) {
        return IMAGE_NO_DATA;
    }
    checker->data_bytes = (uint32_t)len_bytes;
    return IMAGE_OK;
}

/* All of the data is hashed. */
static enum image_fault check_data(const struct image_checker *checker)
{
    uint8_t hash[HASH_BYTES];
    const void *fit = checker->fit;
    const uint8_t *said = value_of(fit, checker->node, "hash-1", "sha256", HASH_BYTES);
    const uint8_t *signature =
        value_of(fit, checker->node, "signature-1", "sha256,rsa2048", SIGNATURE_BYTES);

    br_sha256_out(&checker->sha, hash);
    if (said == NULL || memcmp(hash, said, sizeof(hash)) != 0) {
        return IMAGE_BAD_HASH;
    }
    if (signature == NULL) {
        return IMAGE_NOT_SIGNED;
    }
    if (!is_signed(signature, hash, checker->rules->key)) {
        return IMAGE_BAD_SIGNATURE;
    }
    checker->info->data = checker->data;
    checker->info->data_bytes = checker->data_bytes;
    return check_head(checker->rules, checker->info);
}

void image_check_start(struct image_checker *checker, const void *fit, uint32_t len_bytes,
                       const struct image_rules *rules, struct image_info *info)
{
    memset(checker, 0, sizeof(*checker));
    memset(info, 0, sizeof(*info));
    checker->fit = fit;
    checker->rules = rules;
    checker->info = info;
    br_sha256_init(&checker->sha);
    checker->fault = check_tree(fit, len_bytes);
    if (checker->fault == IMAGE_OK) {
        checker->fault = find_data(checker);
    }
}

bool image_check_step(struct image_checker *checker)
{
    uint32_t bytes = min_u32(checker->data_bytes - checker->hashed_bytes, IMAGE_STEP_BYTES);

    if (checker->fault != IMAGE_OK) {
        return false;
    }
    if (bytes > 0) {
        br_sha256_update(&checker->sha, checker->data + checker->hashed_bytes, bytes);
        checker->hashed_bytes += bytes;
        return true;
    }
    checker->fault = check_data(checker);
    if (checker->fault != IMAGE_OK) {
        checker->info->data = NULL;
        checker->info->data_bytes = 0;
    }
    return false;
}

enum image_fault image_check(const void *fit, uint32_t len_bytes, const struct image_rules *rules,
                             struct image_info *info)
{
    struct image_checker checker;

    image_check_start(&checker, fit, len_bytes, rules, info);
    while (image_check_step(&checker)) {
    }
    return checker.fault;
}
