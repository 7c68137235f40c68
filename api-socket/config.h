/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration model: what a client asked for, one struct for each API resource (CONTRACT.md section 4).
 *
 * These are plain data. Strings are owned by the struct that holds them (malloc, NUL-terminated, UTF-8), NULL where the
 * client gave none. One field table for each struct (config_fields.c) generates parsing, checking, printing (`GET
 * /vm/config`) and the message for every bad field; adding a field means adding a member here and a row there.
 *
 * Threads: none of its own; the I/O thread owns every instance.
 */
#ifndef MAYFLY_API_CONFIG_H
#define MAYFLY_API_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/cdefs.h"

#define CONFIG_MAX_DRIVES 32
#define CONFIG_MAX_NETS 32
#define CONFIG_MAC_BYTES 6

enum config_huge_pages { HUGE_PAGES_NONE, HUGE_PAGES_TRANSPARENT, HUGE_PAGES_2M };
enum config_cpu_template {
	CPU_TEMPLATE_NONE,
	CPU_TEMPLATE_C3,
	CPU_TEMPLATE_T2,
	CPU_TEMPLATE_T2S,
	CPU_TEMPLATE_T2CL,
	CPU_TEMPLATE_T2A,
};
enum config_cache_type { CACHE_UNSAFE, CACHE_WRITEBACK };
enum config_io_engine { IO_ENGINE_SYNC, IO_ENGINE_ASYNC };

/* Token bucket as the client gave it; size 0 or refill_time 0: no limit (CONTRACT.md section 8). */
struct config_bucket {
	bool present;
	uint64_t size;           /* bytes or operations */
	uint64_t one_time_burst; /* the same unit; 0: none */
	uint64_t refill_time_ms;
};

struct config_rate_limiter {
	bool present;
	struct config_bucket bandwidth, ops;
};

struct config_machine {
	uint8_t vcpu_count;
	uint64_t mem_size_mib;
	bool smt;
	bool has_cpu_template; /* the client named one, even `None` */
	enum config_cpu_template cpu_template;
	bool track_dirty_pages;
	enum config_huge_pages huge_pages;
};

struct config_boot_source {
	char *kernel_image_path;
	char *initrd_path; /* NULL: none */
	char *boot_args;   /* NULL: the default line of CONTRACT.md 16.3 */
};

struct config_drive {
	char *drive_id;
	char *path_on_host; /* NULL: none given */
	char *delta_path;   /* NULL: the drive is path_on_host itself; else what is written goes here (copy-on-write) */
	char *partuuid;     /* NULL: none */
	char *socket;       /* vhost-user; always refused */
	bool is_root_device;
	bool has_is_read_only, is_read_only;
	enum config_cache_type cache_type;
	bool has_io_engine;
	enum config_io_engine io_engine;
	struct config_rate_limiter rate_limiter;
};

/* A network interface; exactly one of host_dev_name, tap_fd and passt_socket is given. */
struct config_net {
	char *iface_id;
	char *host_dev_name; /* a tap device */
	bool has_guest_mac;
	uint8_t guest_mac[CONFIG_MAC_BYTES];
	bool has_mtu;
	uint16_t mtu;
	struct config_rate_limiter rx_rate_limiter, tx_rate_limiter; /* rx: towards the guest */
	bool has_tap_fd;
	uint32_t tap_fd;    /* an open tap device that the monitor inherited */
	char *passt_socket; /* where passt listens */
};

struct config_vsock {
	char *vsock_id; /* deprecated, means nothing; NULL: none given */
	uint32_t guest_cid;
	char *uds_path; /* NULL: there is no vsock device */
};

struct config_logger {
	char *log_path; /* NULL: keep */
	bool has_level;
	int level; /* enum log_level */
	bool has_show_level, show_level;
	bool has_show_log_origin, show_log_origin;
	char *module; /* NULL: keep */
};

struct config_serial {
	char *serial_out_path; /* NULL: stdin/stdout */
	struct config_bucket rate_limiter;
};

/* Everything that `GET /vm/config` shows. */
struct vm_config {
	struct config_machine machine;
	struct config_boot_source boot;
	size_t n_drives;
	struct config_drive drive[CONFIG_MAX_DRIVES]; /* root first, then in order of first insertion */
	size_t n_nets;
	struct config_net net[CONFIG_MAX_NETS]; /* in order of last insertion */
	struct config_vsock vsock;
};

struct json_out;

/* Defaults of CONTRACT.md 4.5: 1 vCPU, 128 MiB, no drives. */
void vm_config_init(struct vm_config *config);

/* Free what the struct owns and zero it; idempotent. */
void vm_config_fini(struct vm_config *config);
void config_boot_source_fini(struct config_boot_source *boot);
void config_drive_fini(struct config_drive *drive);
void config_net_fini(struct config_net *net);
void config_vsock_fini(struct config_vsock *vsock);
void config_logger_fini(struct config_logger *logger);
void config_serial_fini(struct config_serial *serial);

/* Does @bucket limit nothing: not given, no size, no refill time, or one beyond 64 bits of nanoseconds? */
bool config_bucket_is_off(const struct config_bucket *bucket);

/* Room for a MAC address as text, NUL included. */
#define CONFIG_MAC_TEXT 18

/* Write @mac as "06:00:ac:10:00:02" to @text. */
void config_mac_text(const uint8_t mac[CONFIG_MAC_BYTES], char text[CONFIG_MAC_TEXT]);

/* Print `GET /machine-config` and `GET /vm/config` (CONTRACT.md 4.4) to @out (json.h). */
void config_print_machine(struct json_out *out, const struct config_machine *machine);
void config_print_vm(struct json_out *out, const struct vm_config *config);

#endif
