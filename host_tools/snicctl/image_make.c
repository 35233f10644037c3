/*
 * Images by the tools that there are: mkimage(1) of U-Boot, openssl(1).
 */
#include "image.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "command.h"

/* --- keys ------------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* "Modulus=C0FF..." and "Exponent: 65537 (0x10001)" out of what openssl prints. */
static bool take_key(const char *text, struct image_key *key)
{
    const char *modulus = strstr(text, "Modulus=");
    const char *exponent = strstr(text, "xponent: ");

    if (modulus == NULL || exponent == NULL) {
        return false;
    }
    modulus += 8;
    key->modulus_bytes = 0;
    while (hex_digit(modulus[0]) >= 0 && hex_digit(modulus[1]) >= 0 &&
           key->modulus_bytes < sizeof(key->modulus)) {
        key->modulus[key->modulus_bytes++] =
            (uint8_t)(hex_digit(modulus[0]) << 4 | hex_digit(modulus[1]));
        modulus += 2;
    }
    unsigned long number = strtoul(exponent + 9, NULL, 10);
    for (int i = 0; i < 4; i++) {
        key->exponent[i] = (uint8_t)(number >> (24 - 8 * i));
    }
    return key->modulus_bytes >= 128;
}

enum fault image_key_read(const char *path, struct image_key *key)
{
    const char *const words[2][9] = {
        {"openssl", "rsa", "-in", path, "-noout", "-modulus", "-text", NULL},
        {"openssl", "rsa", "-pubin", "-in", path, "-noout", "-modulus", "-text", NULL},
    };
    uint8_t *pem = NULL;
    size_t len = 0;

    enum fault fault = file_read(path, 65536, &pem, &len);
    if (fault != FAULT_NONE) {
        return fault;
    }
    bool is_public = strstr((const char *)pem, "PUBLIC KEY") != NULL;
    char *text = NULL;
    free(pem);
    int code = program_run(words[is_public], NULL, 0, &text, &len);
    bool is_good = code == 0 && take_key(text, key);
    free(text);
    if (code == 127) {
        return fault_say(FAULT_FAILED, "openssl is not installed");
    }
    return is_good ? FAULT_NONE : fault_say(FAULT_FAILED, "%s: no RSA key in PEM form", path);
}

/* --- mkimage --------------------------------------------------------------------------------- */

static const char its[] = "/dts-v1/;\n"
                          "/ {\n"
                          "    description = \"snic %s\";\n"
                          "    images {\n"
                          "        firmware {\n"
                          "            description = \"snic %s for %s\";\n"
                          "            type = \"firmware\";\n"
                          "            arch = \"arm64\";\n"
                          "            os = \"u-boot\";\n"
                          "            compression = \"none\";\n"
                          "            load = <0x%x 0x%x>;\n"
                          "            data = /incbin/(\"%s/data\");\n"
                          "            hash-1 { algo = \"sha256\"; };\n"
                          "%s"
                          "        };\n"
                          "    };\n"
                          "    configurations {\n"
                          "        default = \"conf-1\";\n"
                          "        conf-1 { firmware = \"firmware\"; };\n"
                          "    };\n"
                          "};\n";

/* Letters, digits and a few more: what may stand in the source. */
static bool is_plain(const char *text)
{
    return text[strspn(
               text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_+")] == '\0';
}

/* What the signature says of its key, and the name under which mkimage looks for it: the file's,
 * without its ending; NULL: not signed. */
static enum fault write_its(const char *folder, const struct boot_image_head *head,
                            const char *key_name)
{
    char path[128];
    char signature[256] = "";
    char *source = NULL;
    size_t len = 0;

    if (key_name != NULL) {
        snprintf(
            signature, sizeof(signature),
            "            signature-1 { algo = \"sha256,rsa2048\"; key-name-hint = \"%s\"; };\n",
            key_name);
    }
    FILE *file = open_memstream(&source, &len);
    fprintf(file, its, head->version, head->version, head->board, (unsigned)(head->load_addr >> 32),
            (unsigned)head->load_addr, folder, signature);
    fclose(file);
    snprintf(path, sizeof(path), "%s/image.its", folder);
    enum fault fault = file_write(path, source, len);
    free(source);
    return fault;
}

static enum fault run_mkimage(const char *folder, bool is_signed, const char *out)
{
    char source[128];
    const char *const with_key[] = {"mkimage", "-f", source, "-k", folder, out, NULL};
    const char *const without[] = {"mkimage", "-f", source, out, NULL};
    char *text = NULL;
    size_t len = 0;

    snprintf(source, sizeof(source), "%s/image.its", folder);
    int code = program_run(is_signed ? with_key : without, NULL, 0, &text, &len);
    free(text);
    if (code == 127) {
        return fault_say(FAULT_FAILED, "mkimage is not installed (Debian: u-boot-tools)");
    }
    return code == 0 ? FAULT_NONE : fault_say(FAULT_FAILED, "mkimage failed");
}

static void clean(const char *folder, const char *key_link)
{
    static const char *const names[] = {"data", "image.its"};
    char path[160];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    unlink(key_link);
    rmdir(folder);
}

/* "development" of ".../development.key"; "key" when it has what may not stand in the source. */
static void name_of(const char *key, char *name, size_t room)
{
    const char *slash = strrchr(key, '/');

    snprintf(name, room, "%s", slash == NULL ? key : slash + 1);
    char *point = strrchr(name, '.');
    if (point != NULL) {
        *point = '\0';
    }
    if (!is_plain(name) || name[0] == '\0') {
        snprintf(name, room, "key");
    }
}

enum fault image_make(const uint8_t *data, size_t len_bytes, const char *key, const char *out)
{
    struct boot_image_head head;
    char folder[] = "/tmp/snicctl-XXXXXX";
    char path[160];
    char real[PATH_MAX];
    char name[64] = "";

    if (!image_head(data, len_bytes, &head)) {
        return fault_say(
            FAULT_FAILED,
            "no image head at byte %u: is it a flat image of this firmware (snic.bin)?",
            BOOT_IMAGE_HEAD_OFFSET);
    }
    if (!is_plain(head.version) || !is_plain(head.board)) {
        return fault_say(FAULT_FAILED, "the image head has a board or version that is no word");
    }
    if (key != NULL && realpath(key, real) == NULL) {
        return fault_say(FAULT_FAILED, "%s: %s", key, strerror(errno));
    }
    if (mkdtemp(folder) == NULL) {
        return fault_say(FAULT_FAILED, "/tmp: %s", strerror(errno));
    }
    snprintf(path, sizeof(path), "%s/data", folder);
    enum fault fault = file_write(path, data, len_bytes);
    if (fault == FAULT_NONE) {
        name_of(key == NULL ? "" : key, name, sizeof(name));
        fault = write_its(folder, &head, key != NULL ? name : NULL);
    }
    snprintf(path, sizeof(path), "%s/%s.key", folder, name); /* mkimage wants it so */
    if (fault == FAULT_NONE && key != NULL && symlink(real, path) != 0) {
        fault = fault_say(FAULT_FAILED, "%s: %s", path, strerror(errno));
    }
    if (fault == FAULT_NONE) {
        fault = run_mkimage(folder, key != NULL, out);
    }
    clean(folder, path);
    return fault;
}
