/*
 * Words of the configuration that the start-up takes for itself.
 */
#include <stdio.h>
#include <string.h>
#include "boot/boot.h"

bool boot_take_word(char *config, const char *key, char *value, size_t value_bytes)
{
    size_t key_length = strlen(key);

    for (char *word = config; *word != '\0';) {
        size_t length = strcspn(word, " ");
        if (length > key_length && memcmp(word, key, key_length) == 0 && word[key_length] == '=') {
            snprintf(value, value_bytes, "%.*s", (int)(length - key_length - 1),
                     word + key_length + 1);
            memset(word, ' ', length);
            return true;
        }
        word += length;
        word += strspn(word, " ");
    }
    return false;
}
