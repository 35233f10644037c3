/*
 * What the files of the configuration share: the word under the parser's eyes, and what reads
 * numbers and sizes in it.
 */
#ifndef APP_CONFIG_PRIV_H
#define APP_CONFIG_PRIV_H

#include "app/config.h"

#define CONFIG_EVERY UINT32_MAX

/* KEY=VALUE, or KEY.INDEX=VALUE. */
struct config_word {
    struct config *config;
    const char *key; /* as it is written, with the index */
    const char *value;
    uint32_t index; /* CONFIG_EVERY: none */
    char *error;
    uint32_t error_bytes;
};

/* INVALID, and the error says what was expected. */
enum status config_fail(const struct config_word *word, const char *expected);

/* These move *text behind what they took. Decimal digits; false: none, or more than 64 bits. */
bool config_take_number(const char **text, uint64_t *out);
/* Digits and K, M or G or nothing; not 0. */
bool config_take_size(const char **text, uint64_t *out);
bool config_take_prefix(const char **text, const char *prefix);

/* Sets what `name`, a key with or without ".INDEX", stands for to word->value; word->key is what an
 * error calls it. *is_known: false when there is no such key. */
enum status config_set(struct config_word *word, const char *name, bool *is_known);

/* A whole value that is a number of [low, high]. */
bool config_whole_number(const char *value, uint64_t low, uint64_t high, uint64_t *out);

/* Setters of single words; see config.h. */
enum status config_set_ns(const struct config_word *word);
enum status config_set_ip(const struct config_word *word);
enum status config_set_ip6(const struct config_word *word);
enum status config_set_gateway(const struct config_word *word);
enum status config_set_gateway6(const struct config_word *word);
enum status config_set_vlan(const struct config_word *word);
enum status config_set_mtu(const struct config_word *word);
enum status config_set_ecn(const struct config_word *word);
enum status config_set_diag(const struct config_word *word);
enum status config_set_perf_size(const struct config_word *word);

/* 0: `port` suits itself; else which gateway is outside of its network: 4 or 6. */
uint32_t config_bad_gateway(const struct config_port *port);

/* What one word alone cannot tell: a gateway outside of its network. */
enum status config_check_fabric(const struct config_word *word);

#endif
