/*
 * What the files of app's management share: who fills which records.
 */
#ifndef APP_MGMT_PRIV_H
#define APP_MGMT_PRIV_H

#include "app/app_priv.h"
#include "mgmt/mgmt.h"
#include "update/store.h"

extern const struct mgmt_tables app_mgmt_tables;

/* Copies text into a zeroed field of a record, cut to fit. Any context. */
void app_mgmt_text(char *to, size_t to_bytes, const char *text);

/* --- mgmt_console.c: frames ------------------------------------------------------------------ */

void app_mgmt_frames_start(void);
/* Answers a frame that waits. Core 0, each turn. */
uint32_t app_mgmt_frames_poll(void);

/* --- records: see spec/mgmt_record.h; count() and fill() of mgmt/mgmt.h ------------------- */

/* mgmt_nvme.c */
uint32_t app_mgmt_function_count(void);
uint32_t app_mgmt_function(uint32_t index, void *record);
uint32_t app_mgmt_queue_count(void);
uint32_t app_mgmt_queue(uint32_t index, void *record);
uint32_t app_mgmt_drive_count(void);
uint32_t app_mgmt_drive(uint32_t index, void *record);
uint32_t app_mgmt_namespace_count(void);
uint32_t app_mgmt_namespace(uint32_t index, void *record);
/* mgmt_volumes.c */
uint32_t app_mgmt_volume_count(void);
uint32_t app_mgmt_volume(uint32_t index, void *record);
uint32_t app_mgmt_path_count(void);
uint32_t app_mgmt_path(uint32_t index, void *record);
uint32_t app_mgmt_association_count(void);
uint32_t app_mgmt_association(uint32_t index, void *record);
/* mgmt_fabric.c: collected from the cores of the ports */
enum mgmt_status app_mgmt_fabric_prepare(void);
uint32_t app_mgmt_connection_count(void);
uint32_t app_mgmt_connection(uint32_t index, void *record);
uint32_t app_mgmt_qp_count(void);
uint32_t app_mgmt_qp(uint32_t index, void *record);
uint32_t app_mgmt_port_count(void);
uint32_t app_mgmt_port(uint32_t index, void *record);
/* mgmt_stats.c: the board's alone, but for counters of functions */
uint32_t app_mgmt_reactor_count(void);
uint32_t app_mgmt_reactor(uint32_t index, void *record);
uint32_t app_mgmt_poller_count(void);
uint32_t app_mgmt_poller(uint32_t index, void *record);
uint32_t app_mgmt_stat_count(void);
uint32_t app_mgmt_stat(uint32_t index, void *record);
/* Without reading the counters. */
uint32_t app_mgmt_stat_owners(uint32_t index);

/* --- mgmt_objects.c -------------------------------------------------------------------------- */

/* Keeps the log from now on. */
void app_mgmt_log_start(void);
enum mgmt_status app_mgmt_read_log(uint16_t part, struct mgmt_read *out, uint8_t *data);
enum mgmt_status app_mgmt_read_trace(uint16_t part, struct mgmt_read *out, uint8_t *data);
enum mgmt_status app_mgmt_read_crash(uint16_t part, struct mgmt_read *out, uint8_t *data);
enum mgmt_status app_mgmt_read_console(uint16_t part, struct mgmt_read *out, uint8_t *data);
enum mgmt_status app_mgmt_read_config(uint16_t part, struct mgmt_read *out, uint8_t *data);

enum mgmt_status app_mgmt_run(const struct mgmt_from *from, const uint8_t *arguments,
                              uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes);
enum mgmt_status app_mgmt_reset(const struct mgmt_from *from, const uint8_t *arguments,
                                uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes);
enum mgmt_status app_mgmt_hand_over(const struct mgmt_from *from, const uint8_t *arguments,
                                    uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes);
enum mgmt_status app_mgmt_trace(const struct mgmt_from *from, const uint8_t *arguments,
                                uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes);
enum mgmt_status app_mgmt_log_level(const struct mgmt_from *from, const uint8_t *arguments,
                                    uint32_t len_bytes, uint8_t *answer, uint32_t *answer_bytes);

/* --- mgmt_config.c --------------------------------------------------------------------------- */

/* Takes its memory. The store is opened, and the board's. */
void app_mgmt_config_open(struct store *store);
/* Goes on with a configuration that is on its way into flash, which is_busy() says. Core 0. */
uint32_t app_mgmt_config_poll(void);
bool app_mgmt_config_is_busy(void);
enum mgmt_status app_mgmt_write_config(const struct mgmt_from *from, uint64_t offset,
                                       const uint8_t *data, uint32_t len_bytes);
enum mgmt_status app_mgmt_commit_config(const struct mgmt_from *from, const uint8_t *arguments,
                                        uint32_t len_bytes, uint8_t *answer,
                                        uint32_t *answer_bytes);

#endif
