#include "image.h"

#include <string.h>
#include <bearssl.h>
#include <libfdt.h>
#include "text.h"

#define NODE_FIRMWARE "/images/firmware"

static const void *property(const uint8_t *fit, const char *path, const char *name, int *len)
{
    int node = fdt_path_offset(fit, path);

    return node < 0 ? NULL : fdt_getprop(fit, node, name, len);
}

/* NULL: none, or none that ends. */
static const char *text_property(const uint8_t *fit, const char *path, const char *name)
{
    int len = 0;
    const char *text = property(fit, path, name, &len);

    return text != NULL && len > 0 && text[len - 1] == '\0' ? text : NULL;
}

bool image_head(const uint8_t *data, size_t len_bytes, struct boot_image_head *head)
{
    if (len_bytes < BOOT_IMAGE_HEAD_OFFSET + sizeof(*head)) {
        return false;
    }
    memcpy(head, data + BOOT_IMAGE_HEAD_OFFSET, sizeof(*head));
    head->board[sizeof(head->board) - 1] = '\0';
    head->version[sizeof(head->version) - 1] = '\0';
    return head->magic == BOOT_IMAGE_HEAD_MAGIC && head->head_version == BOOT_IMAGE_HEAD_VERSION;
}

static void take_hash(struct image *image)
{
    br_sha256_context sha;
    int len = 0;
    const char *algorithm = text_property(image->fit, NODE_FIRMWARE "/hash-1", "algo");
    const void *value = property(image->fit, NODE_FIRMWARE "/hash-1", "value", &len);

    br_sha256_init(&sha);
    br_sha256_update(&sha, image->data, image->data_bytes);
    br_sha256_out(&sha, image->sha256);
    image->has_hash = algorithm != NULL && strcmp(algorithm, "sha256") == 0 && value != NULL &&
                      len == (int)sizeof(image->sha256);
    image->is_hash_good =
        image->has_hash && memcmp(value, image->sha256, sizeof(image->sha256)) == 0;
}

bool image_parse(const uint8_t *bytes, size_t len_bytes, struct image *image, const char **why)
{
    int len = 0;

    memset(image, 0, sizeof(*image));
    if (len_bytes < sizeof(struct fdt_header) || fdt_check_header(bytes) != 0) {
        *why = "it is no FIT: no device tree is at its beginning";
        return false;
    }
    if (fdt_totalsize(bytes) > len_bytes) {
        *why = "it is cut off: shorter than its head says";
        return false;
    }
    if (fdt_check_full(bytes, len_bytes) != 0) {
        *why = "its device tree is damaged";
        return false;
    }
    image->fit = bytes;
    image->fit_bytes = fdt_totalsize(bytes);
    image->data = property(bytes, NODE_FIRMWARE, "data", &len);
    if (image->data == NULL || len <= 0) {
        *why = "it has no data at " NODE_FIRMWARE;
        return false;
    }
    image->data_bytes = (size_t)len;
    image->description = text_property(bytes, "/", "description");
    image->has_head = image_head(image->data, image->data_bytes, &image->head);
    image->algorithm = text_property(bytes, NODE_FIRMWARE "/signature-1", "algo");
    image->key_name = text_property(bytes, NODE_FIRMWARE "/signature-1", "key-name-hint");
    image->signature = property(bytes, NODE_FIRMWARE "/signature-1", "value", &len);
    image->signature_bytes = image->signature != NULL ? (size_t)len : 0;
    if (image->signature == NULL) {
        image->algorithm = NULL;
    }
    take_hash(image);
    return true;
}

bool image_is_signed_by(const struct image *image, const struct image_key *key)
{
    struct image_key copy = *key;
    br_rsa_public_key rsa = {copy.modulus, copy.modulus_bytes, copy.exponent,
                             sizeof(copy.exponent)};
    uint8_t hash[32];

    if (image->signature == NULL || image->algorithm == NULL ||
        strncmp(image->algorithm, "sha256,rsa", 10) != 0) {
        return false;
    }
    return br_rsa_pkcs1_vrfy_get_default()(image->signature, image->signature_bytes,
                                           BR_HASH_OID_SHA256, sizeof(hash), &rsa, hash) == 1 &&
           memcmp(hash, image->sha256, sizeof(hash)) == 0;
}
