/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-blk driver over virtio-mmio that can do everything right and, piece by piece, everything wrong.
 *
 * One queue of QUEUE_SIZE elements on the device at BLK_BASE (the first disk). Tests fill descriptors with desc_set(),
 * make a chain available with avail_put() and kick(); or call blk_io() for a whole correct request.
 */
#ifndef MAYFLY_TEST_BLK_H
#define MAYFLY_TEST_BLK_H

#include "guest.h"

#define BLK_BASE 0xc0001000ull
#define QUEUE_SIZE 64

#define REG_MAGIC 0x000
#define REG_VERSION 0x004
#define REG_DEVICE_ID 0x008
#define REG_DEVICE_FEATURES 0x010
#define REG_DEVICE_FEATURES_SEL 0x014
#define REG_DRIVER_FEATURES 0x020
#define REG_DRIVER_FEATURES_SEL 0x024
#define REG_QUEUE_SEL 0x030
#define REG_QUEUE_NUM_MAX 0x034
#define REG_QUEUE_NUM 0x038
#define REG_QUEUE_READY 0x044
#define REG_QUEUE_NOTIFY 0x050
#define REG_INTERRUPT_STATUS 0x060
#define REG_INTERRUPT_ACK 0x064
#define REG_STATUS 0x070
#define REG_QUEUE_DESC 0x080
#define REG_QUEUE_DRIVER 0x090
#define REG_QUEUE_DEVICE 0x0a0
#define REG_CONFIG 0x100

#define ST_ACKNOWLEDGE 1u
#define ST_DRIVER 2u
#define ST_DRIVER_OK 4u
#define ST_FEATURES_OK 8u
#define ST_NEEDS_RESET 0x40u
#define ST_FAILED 0x80u
#define ST_RUNNING 0xfu

#define F_NEXT 1
#define F_WRITE 2
#define F_INDIRECT 4

#define FEATURE_RO (1ull << 5)
#define FEATURE_FLUSH (1ull << 9)
#define FEATURE_DISCARD (1ull << 13)
#define FEATURE_WRITE_ZEROES (1ull << 14)
#define FEATURE_INDIRECT (1ull << 28)
#define FEATURE_EVENT_IDX (1ull << 29)
#define FEATURE_VERSION_1 (1ull << 32)

#define T_IN 0
#define T_OUT 1
#define T_FLUSH 4
#define T_GET_ID 8
#define T_DISCARD 11
#define T_WRITE_ZEROES 13

#define BLK_OK 0
#define BLK_IOERR 1
#define BLK_UNSUPP 2
#define BLK_UNTOUCHED 0xee /* the status byte as the test left it: the device wrote none */
#define BLK_NO_ANSWER 0x100

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct avail {
	uint16_t flags, idx, ring[QUEUE_SIZE], used_event;
};

struct used {
	uint16_t flags, idx;
	struct {
		uint32_t id, len;
	} ring[QUEUE_SIZE];
	uint16_t avail_event;
};

struct blk_header {
	uint32_t type, reserved;
	uint64_t sector;
};

/* One range of a DISCARD or WRITE_ZEROES. */
struct blk_range {
	uint64_t sector;
	uint32_t n_sectors, flags;
};

extern volatile struct desc desc_table[QUEUE_SIZE];
extern volatile struct avail avail_ring;
extern volatile struct used used_ring;
extern struct blk_header header;   /* of the request that tests build by hand */
extern volatile uint8_t status_byte;
extern uint8_t data[65536];

uint32_t reg_read(uint32_t off);
void reg_write(uint32_t off, uint32_t v);
uint64_t features_offered(void);

/* Reset, and go as far as FEATURES_OK with @features. Returns the status read back. */
uint32_t blk_negotiate(uint64_t features);

/* Tell the device of the rings (cleared) with the given geometry. */
void queue_setup(uint32_t size, uint64_t desc, uint64_t driver, uint64_t device);

/* All of it, as a good driver: everything that is offered, DRIVER_OK. True when the device runs. */
bool blk_start(void);
bool blk_start_with(uint64_t features);

void desc_set(unsigned i, const volatile void *addr, uint32_t len, uint16_t flags, uint16_t next);
void avail_put(uint16_t head);
void kick(void);

/* Wait until the device has used @n more chains than before the last call, or has given up on the ring. False: neither. */
bool wait_used(unsigned n);
/* The used element of the last chain that wait_used() waited for. */
uint32_t last_used_len(void);
uint32_t last_used_id(void);

/* Descriptors 0 to 2: header, data, status, for a request of @type at @sector with @len bytes of data[]. Not yet available. */
void request_build(uint32_t type, uint64_t sector, uint32_t len);
/* Make chain 0 available, kick, wait. Returns the status byte, BLK_UNTOUCHED or BLK_NO_ANSWER. */
uint32_t request_run(void);
/* Both. */
uint32_t blk_io(uint32_t type, uint64_t sector, uint32_t len);

/* Does data[] hold sector @sector as the runner made it? "sector 00000017\n" and so on. */
bool is_sector(const uint8_t *bytes, uint32_t sector);

/* The queue must be broken now: NEEDS_RESET, a configuration interrupt, and after a reset the disk works. */
void expect_broken_then_works(void);

/* The same with @n good requests offered before: each of them may have been completed first. */
void expect_broken_in_flight(unsigned n);
/* The disk still works without a reset. */
void expect_works(const char *name);

#endif
