/*
 * `crash`: the panic of the run before, with function names when the ELF of that firmware is there.
 */
#include "command.h"

#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "spec/crash.h"
#include "text.h"

/* Programs that turn addresses into "function" and "file:line"; the first that is there. */
static const char *const symbolizers[] = {"aarch64-linux-gnu-addr2line", "llvm-addr2line",
                                          "llvm-addr2line-14", "addr2line"};

#define ELF_MAX_BYTES (256u << 20)

struct place {
    uint64_t addr;
    char text[512]; /* empty: not known */
};

/* "function at file:line" out of the two lines that addr2line prints for an address. */
static void take_place(struct place *place, char **lines)
{
    char *function = strsep(lines, "\n");
    char *file = strsep(lines, "\n");

    if (function == NULL || file == NULL || strcmp(function, "??") == 0) {
        return;
    }
    char *block = strstr(file, " (discriminator "); /* within the line */
    if (block != NULL) {
        *block = '\0';
    }
    bool is_placed = strncmp(file, "??", 2) != 0;
    snprintf(place->text, sizeof(place->text), "%.200s%s%.250s", function, is_placed ? " at " : "",
             is_placed ? file : "");
}

static enum fault symbolise(const char *elf, struct place *places, uint32_t count)
{
    char addresses[CRASH_RECORD_FRAMES + 2][24];
    const char *words[CRASH_RECORD_FRAMES + 8] = {NULL, "-f", "-e", elf};
    char *text = NULL;
    size_t len = 0;
    int code = 127;

    for (uint32_t i = 0; i < count; i++) {
        /* The firmware has taken the call's address for the one that it returns to. */
        snprintf(addresses[i], sizeof(addresses[i]), "0x%" PRIx64, places[i].addr);
        words[4 + i] = addresses[i];
    }
    for (uint32_t i = 0; i < ARRAY_SIZE(symbolizers) && code == 127; i++) {
        words[0] = symbolizers[i];
        free(text);
        code = program_run(words, NULL, 0, &text, &len);
    }
    if (code != 0) {
        free(text);
        return code == 127 ? fault_say(FAULT_FAILED, "no addr2line: install binutils or llvm")
                           : fault_say(FAULT_FAILED, "addr2line could not read %s", elf);
    }
    char *lines = text;
    for (uint32_t i = 0; i < count; i++) {
        take_place(&places[i], &lines);
    }
    free(text);
    return FAULT_NONE;
}

/* Code of the ELF lies there. */
static bool is_code(const uint8_t *bytes, size_t len, uint64_t addr)
{
    Elf64_Ehdr head;
    Elf64_Phdr part;

    memcpy(&head, bytes, sizeof(head));
    for (uint32_t i = 0; i < head.e_phnum; i++) {
        uint64_t at = (uint64_t)i * sizeof(part);
        if (head.e_phoff > len || at + sizeof(part) > len - head.e_phoff) {
            return false;
        }
        memcpy(&part, bytes + head.e_phoff + at, sizeof(part));
        if (part.p_type == PT_LOAD && (part.p_flags & PF_X) != 0 && addr >= part.p_vaddr &&
            addr - part.p_vaddr < part.p_memsz) {
            return true;
        }
    }
    return false;
}

/* Names of another firmware would be believed; addr2line gives the nearest that it has. */
static void warn_of_other(const char *elf, const struct place *places, uint32_t count)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    uint32_t strange = 0;
    uint64_t first = 0;

    enum fault fault = file_read(elf, ELF_MAX_BYTES, &bytes, &len);
    if (fault != FAULT_NONE || len < sizeof(Elf64_Ehdr) || memcmp(bytes, ELFMAG, SELFMAG) != 0 ||
        bytes[EI_CLASS] != ELFCLASS64) {
        free(bytes);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!is_code(bytes, len, places[i].addr)) {
            first = strange++ == 0 ? places[i].addr : first;
        }
    }
    if (strange > 0) {
        fault_note("%s: it has no code at %u of the %u addresses, the first 0x%" PRIx64
                   ": is it the ELF of the firmware that died? (The Linux build never is.)",
                   elf, strange, count, first);
    }
    free(bytes);
}

static void show(struct call *call, const struct crash_record *crash, const struct place *places,
                 uint32_t count, bool has_elf)
{
    char time[32];

    text_uptime(time, sizeof(time), crash->time_ns);
    fputs("panic      ", call->out);
    text_put(call->out, crash->text, text_len(crash->text, sizeof(crash->text)), false);
    fprintf(call->out, "\ncore       %u, %s after its start\n", crash->core, time);
    fprintf(call->out, "starts     %u since power-on, %u panics\n", crash->start_count,
            crash->panic_count);
    if (crash->regs.esr != 0) {
        fprintf(call->out, "exception  ESR 0x%" PRIx64 ", address 0x%" PRIx64 "\n", crash->regs.esr,
                crash->regs.far);
    }
    fputs("\n", call->out);
    for (uint32_t i = 0; i < count; i++) {
        fprintf(call->out, "%s 0x%012" PRIx64 "%s", i == 0 ? "pc" : "  ", places[i].addr,
                places[i].text[0] != '\0' ? "  " : "");
        text_put(call->out, places[i].text, strlen(places[i].text), false);
        fputc('\n', call->out);
    }
    fputs("\n", call->out);
    for (uint32_t i = 0; i < 31; i++) {
        fprintf(call->out, "x%-2u 0x%016" PRIx64 "%s", i, crash->regs.x[i],
                i % 3 == 2 ? "\n" : "  ");
    }
    fprintf(call->out, "sp  0x%016" PRIx64 "  pstate 0x%" PRIx64 "\n", crash->regs.sp,
            crash->regs.pstate);
    if (!has_elf) {
        fprintf(call->out,
                "\n--elf FILE, the ELF of the firmware that died, names the functions\n");
    }
}

static void show_json(struct call *call, const struct crash_record *crash,
                      const struct place *places, uint32_t count)
{
    struct json json;

    reply_start(call, &json);
    if (crash == NULL) {
        json_null(&json, "crash");
        reply_end(&json);
        return;
    }
    json_open(&json, "crash", '{');
    json_text_len(&json, "text", crash->text, text_len(crash->text, sizeof(crash->text)));
    json_uint(&json, "core", crash->core);
    json_uint(&json, "time_ns", crash->time_ns);
    json_uint(&json, "start_count", crash->start_count);
    json_uint(&json, "panic_count", crash->panic_count);
    json_hex(&json, "esr", crash->regs.esr, 1);
    json_hex(&json, "far", crash->regs.far, 1);
    json_hex(&json, "sp", crash->regs.sp, 1);
    json_hex(&json, "pstate", crash->regs.pstate, 1);
    json_open_flat(&json, "x", '[');
    for (uint32_t i = 0; i < 31; i++) {
        json_hex(&json, NULL, crash->regs.x[i], 1);
    }
    json_close(&json, ']');
    json_open(&json, "frames", '[');
    for (uint32_t i = 0; i < count; i++) {
        json_open_flat(&json, NULL, '{');
        json_hex(&json, "address", places[i].addr, 1);
        if (places[i].text[0] != '\0') {
            json_text(&json, "place", places[i].text);
        } else {
            json_null(&json, "place");
        }
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_close(&json, '}');
    reply_end(&json);
}

/* Checks what was read; false: it is none, which was said. */
static enum fault take_record(const uint8_t *bytes, size_t len, struct crash_record *crash)
{
    if (len < sizeof(*crash)) {
        return fault_say(FAULT_VERSION, "the crash record has %zu bytes: this tool knows %zu", len,
                         sizeof(*crash));
    }
    memcpy(crash, bytes, sizeof(*crash));
    if (crash->magic != CRASH_RECORD_MAGIC || crash->version != CRASH_RECORD_VERSION ||
        crash->size_bytes > len || crash->size_bytes < sizeof(*crash)) {
        return fault_say(FAULT_VERSION,
                         "a crash record of version %u, which this tool does not know",
                         crash->version);
    }
    if (message_crc(0, bytes + 16, crash->size_bytes - 16) != crash->crc) {
        fault_note("the crash record's checksum is wrong");
    }
    return FAULT_NONE;
}

enum fault cmd_crash(struct call *call)
{
    const char *elf = args_value(call, "--elf");
    struct place *places = calloc(CRASH_RECORD_FRAMES + 1, sizeof(*places));
    struct crash_record crash = {0};
    uint8_t *bytes = NULL;
    size_t len = 0;
    uint32_t count = 1;

    enum fault fault = args_done(call, 0, 0);
    if (fault == FAULT_NONE && !client_has_object(call->client, MGMT_OBJECT_CRASH)) {
        fault = not_from_here(call, "crash records");
    }
    if (fault == FAULT_NONE) {
        fault = client_read_all(call->client, MGMT_OBJECT_CRASH, 0, 65536, &bytes, &len, NULL);
    }
    if (fault == FAULT_NONE && len > 0) {
        fault = take_record(bytes, len, &crash);
    }
    if (fault == FAULT_NONE && len > 0) {
        places[0].addr = crash.regs.pc;
        for (uint32_t i = 0; i < crash.frame_count && i < CRASH_RECORD_FRAMES; i++) {
            if (i > 0 || crash.frames[i] != crash.regs.pc) {
                places[count++].addr = crash.frames[i];
            }
        }
        fault = elf == NULL ? FAULT_NONE : symbolise(elf, places, count);
        if (elf != NULL && fault == FAULT_NONE) {
            warn_of_other(elf, places, count);
        }
    }
    if (fault == FAULT_NONE && call->options->is_json) {
        show_json(call, len > 0 ? &crash : NULL, places, count);
    } else if (fault == FAULT_NONE && len == 0) {
        fprintf(call->out, "no crash: the run before did not end by a panic (this start: %s)\n",
                call->client->hello.reset_cause);
    } else if (fault == FAULT_NONE) {
        show(call, &crash, places, count, elf != NULL);
    }
    free(bytes);
    free(places);
    return fault;
}
