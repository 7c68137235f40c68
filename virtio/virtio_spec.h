/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants and wire structs of virtio 1.2 (OASIS, csd01), with the number of the section that each
 * comes from.
 *
 * A `_wire` struct is what stands in guest memory: little-endian, no padding. Its values never leave
 * the parser that copied it (STYLE.md B3).
 */
#ifndef MAYFLY_VIRTIO_SPEC_H
#define MAYFLY_VIRTIO_SPEC_H

#include <stddef.h>
#include <stdint.h>

/* 2.1 Device status field */
#define VIRTIO_STATUS_ACKNOWLEDGE UINT32_C(0x01)
#define VIRTIO_STATUS_DRIVER UINT32_C(0x02)
#define VIRTIO_STATUS_DRIVER_OK UINT32_C(0x04)
#define VIRTIO_STATUS_FEATURES_OK UINT32_C(0x08)
#define VIRTIO_STATUS_NEEDS_RESET UINT32_C(0x40)
#define VIRTIO_STATUS_FAILED UINT32_C(0x80)

/* 5 Device types */
#define VIRTIO_ID_NET 1
#define VIRTIO_ID_BLOCK 2
#define VIRTIO_ID_VSOCK 19

/* 6 Reserved feature bits */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1 (UINT64_C(1) << 32)
#define VIRTIO_F_IN_ORDER (UINT64_C(1) << 35)

/* 2.7.5 The virtqueue descriptor table */
#define VIRTQ_DESC_F_NEXT UINT16_C(0x1)
#define VIRTQ_DESC_F_WRITE UINT16_C(0x2)
#define VIRTQ_DESC_F_INDIRECT UINT16_C(0x4)

struct virtq_desc_wire {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
_Static_assert(sizeof(struct virtq_desc_wire) == 16, "virtio 1.2 2.7.5");
_Static_assert(offsetof(struct virtq_desc_wire, next) == 14, "virtio 1.2 2.7.5");

/* 2.7.6 The available ring: flags, idx, ring[size], used_event */
#define VIRTQ_AVAIL_F_NO_INTERRUPT UINT16_C(1)
#define VIRTQ_AVAIL_FLAGS 0
#define VIRTQ_AVAIL_IDX 2
#define VIRTQ_AVAIL_RING 4

/* 2.7.8 The used ring: flags, idx, ring[size], avail_event */
#define VIRTQ_USED_F_NO_NOTIFY UINT16_C(1)
#define VIRTQ_USED_FLAGS 0
#define VIRTQ_USED_IDX 2
#define VIRTQ_USED_RING 4

struct virtq_used_elem_wire {
	uint32_t id;
	uint32_t len;
};
_Static_assert(sizeof(struct virtq_used_elem_wire) == 8, "virtio 1.2 2.7.8");

/* 2.7 Alignment of the three parts */
#define VIRTQ_DESC_ALIGN 16
#define VIRTQ_AVAIL_ALIGN 2
#define VIRTQ_USED_ALIGN 4

/* 2.7.6 and 2.7.8: the sizes of the rings of @n elements, with the event word behind the last one. */
#define VIRTQ_DESC_BYTES(n) (UINT64_C(16) * (n))
#define VIRTQ_AVAIL_BYTES(n) (UINT64_C(6) + UINT64_C(2) * (n))
#define VIRTQ_USED_BYTES(n) (UINT64_C(6) + UINT64_C(8) * (n))

/* 4.2.2 MMIO device register layout */
#define VIRTIO_MMIO_MAGIC_VALUE 0x000
#define VIRTIO_MMIO_VERSION 0x004
#define VIRTIO_MMIO_DEVICE_ID 0x008
#define VIRTIO_MMIO_VENDOR_ID 0x00c
#define VIRTIO_MMIO_DEVICE_FEATURES 0x010
#define VIRTIO_MMIO_DEVICE_FEATURES_SEL 0x014
#define VIRTIO_MMIO_DRIVER_FEATURES 0x020
#define VIRTIO_MMIO_DRIVER_FEATURES_SEL 0x024
#define VIRTIO_MMIO_QUEUE_SEL 0x030
#define VIRTIO_MMIO_QUEUE_NUM_MAX 0x034
#define VIRTIO_MMIO_QUEUE_NUM 0x038
#define VIRTIO_MMIO_QUEUE_READY 0x044
#define VIRTIO_MMIO_QUEUE_NOTIFY 0x050
#define VIRTIO_MMIO_INTERRUPT_STATUS 0x060
#define VIRTIO_MMIO_INTERRUPT_ACK 0x064
#define VIRTIO_MMIO_STATUS 0x070
#define VIRTIO_MMIO_QUEUE_DESC_LOW 0x080
#define VIRTIO_MMIO_QUEUE_DESC_HIGH 0x084
#define VIRTIO_MMIO_QUEUE_DRIVER_LOW 0x090
#define VIRTIO_MMIO_QUEUE_DRIVER_HIGH 0x094
#define VIRTIO_MMIO_QUEUE_DEVICE_LOW 0x0a0
#define VIRTIO_MMIO_QUEUE_DEVICE_HIGH 0x0a4
#define VIRTIO_MMIO_SHM_SEL 0x0ac
#define VIRTIO_MMIO_SHM_LEN_LOW 0x0b0
#define VIRTIO_MMIO_SHM_LEN_HIGH 0x0b4
#define VIRTIO_MMIO_SHM_BASE_LOW 0x0b8
#define VIRTIO_MMIO_SHM_BASE_HIGH 0x0bc
#define VIRTIO_MMIO_QUEUE_RESET 0x0c0
#define VIRTIO_MMIO_CONFIG_GENERATION 0x0fc
#define VIRTIO_MMIO_CONFIG 0x100

#define VIRTIO_MMIO_MAGIC UINT32_C(0x74726976) /* "virt" */
#define VIRTIO_MMIO_VERSION_2 UINT32_C(2)

/* 4.2.2 InterruptStatus */
#define VIRTIO_INT_USED_BUFFER UINT32_C(1)
#define VIRTIO_INT_CONFIG_CHANGE UINT32_C(2)

/* 5.1.3 Network device feature bits */
#define VIRTIO_NET_F_CSUM (UINT64_C(1) << 0)
#define VIRTIO_NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define VIRTIO_NET_F_MTU (UINT64_C(1) << 3)
#define VIRTIO_NET_F_MAC (UINT64_C(1) << 5)
#define VIRTIO_NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define VIRTIO_NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define VIRTIO_NET_F_GUEST_UFO (UINT64_C(1) << 10)
#define VIRTIO_NET_F_HOST_TSO4 (UINT64_C(1) << 11)
#define VIRTIO_NET_F_HOST_TSO6 (UINT64_C(1) << 12)
#define VIRTIO_NET_F_HOST_UFO (UINT64_C(1) << 14)
#define VIRTIO_NET_F_MRG_RXBUF (UINT64_C(1) << 15)

/* 5.1.4 Network device configuration: up to what we offer */
struct virtio_net_config_wire {
	uint8_t mac[6];
	uint16_t status;
	uint16_t max_virtqueue_pairs;
	uint16_t mtu;
};
_Static_assert(sizeof(struct virtio_net_config_wire) == 12, "virtio 1.2 5.1.4");
_Static_assert(offsetof(struct virtio_net_config_wire, mtu) == 10, "virtio 1.2 5.1.4");

/* 5.1.6 Network device operation: in front of each frame */
struct virtio_net_hdr_wire {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
	uint16_t num_buffers;
};
_Static_assert(sizeof(struct virtio_net_hdr_wire) == 12, "virtio 1.2 5.1.6");
_Static_assert(offsetof(struct virtio_net_hdr_wire, num_buffers) == 10, "virtio 1.2 5.1.6");

#define VIRTIO_NET_HDR_F_NEEDS_CSUM UINT8_C(1)
#define VIRTIO_NET_HDR_GSO_NONE UINT8_C(0)
#define VIRTIO_NET_HDR_GSO_TCPV4 UINT8_C(1)
#define VIRTIO_NET_HDR_GSO_UDP UINT8_C(3)
#define VIRTIO_NET_HDR_GSO_TCPV6 UINT8_C(4)

/* 5.2.3 Block device feature bits */
#define VIRTIO_BLK_F_SEG_MAX (UINT64_C(1) << 2)
#define VIRTIO_BLK_F_RO (UINT64_C(1) << 5)
#define VIRTIO_BLK_F_BLK_SIZE (UINT64_C(1) << 6)
#define VIRTIO_BLK_F_FLUSH (UINT64_C(1) << 9)
#define VIRTIO_BLK_F_TOPOLOGY (UINT64_C(1) << 10)
#define VIRTIO_BLK_F_DISCARD (UINT64_C(1) << 13)
#define VIRTIO_BLK_F_WRITE_ZEROES (UINT64_C(1) << 14)

/* 5.2.4 Block device configuration: the part in front of secure erase is what we have */
struct virtio_blk_config_wire {
	uint64_t capacity; /* 512-byte sectors */
	uint32_t size_max;
	uint32_t seg_max;
	uint32_t geometry;
	uint32_t blk_size;          /* bytes */
	uint8_t physical_block_exp; /* logical blocks in a physical one, as a power of two */
	uint8_t alignment_offset;   /* logical blocks */
	uint16_t min_io_size;       /* logical blocks */
	uint32_t opt_io_size;       /* logical blocks */
	uint8_t writeback;
	uint8_t unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors;
	uint32_t max_discard_seg;
	uint32_t discard_sector_alignment;
	uint32_t max_write_zeroes_sectors;
	uint32_t max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
} __attribute__((packed, aligned(4)));
_Static_assert(sizeof(struct virtio_blk_config_wire) == 60, "virtio 1.2 5.2.4");
_Static_assert(offsetof(struct virtio_blk_config_wire, physical_block_exp) == 24, "virtio 1.2 5.2.4");
_Static_assert(offsetof(struct virtio_blk_config_wire, max_discard_sectors) == 36, "virtio 1.2 5.2.4");

/* 5.2.6 Block device operation */
struct virtio_blk_req_wire {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};
_Static_assert(sizeof(struct virtio_blk_req_wire) == 16, "virtio 1.2 5.2.6");

#define VIRTIO_BLK_SECTOR_SHIFT 9
#define VIRTIO_BLK_SECTOR_SIZE 512
#define VIRTIO_BLK_T_IN 0
#define VIRTIO_BLK_T_OUT 1
#define VIRTIO_BLK_T_FLUSH 4
#define VIRTIO_BLK_T_GET_ID 8
#define VIRTIO_BLK_T_DISCARD 11
#define VIRTIO_BLK_T_WRITE_ZEROES 13
#define VIRTIO_BLK_ID_BYTES 20
#define VIRTIO_BLK_S_OK 0
#define VIRTIO_BLK_S_IOERR 1
#define VIRTIO_BLK_S_UNSUPP 2

/* 5.2.6: one range of a DISCARD or WRITE_ZEROES */
struct virtio_blk_range_wire {
	uint64_t sector;
	uint32_t num_sectors;
	uint32_t flags;
};
_Static_assert(sizeof(struct virtio_blk_range_wire) == 16, "virtio 1.2 5.2.6");

#define VIRTIO_BLK_RANGE_F_UNMAP UINT32_C(1)

/* 5.10.4 Socket device configuration */
struct virtio_vsock_config_wire {
	uint64_t guest_cid;
};

/* 5.10.6 Socket device operation */
struct virtio_vsock_hdr_wire {
	uint64_t src_cid;
	uint64_t dst_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint32_t len;
	uint16_t type;
	uint16_t op;
	uint32_t flags;
	uint32_t buf_alloc;
	uint32_t fwd_cnt;
} __attribute__((packed, aligned(4)));
_Static_assert(sizeof(struct virtio_vsock_hdr_wire) == 44, "virtio 1.2 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr_wire, len) == 24, "virtio 1.2 5.10.6");
_Static_assert(offsetof(struct virtio_vsock_hdr_wire, fwd_cnt) == 40, "virtio 1.2 5.10.6");

#define VIRTIO_VSOCK_RXQ 0
#define VIRTIO_VSOCK_TXQ 1
#define VIRTIO_VSOCK_EVENTQ 2
#define VIRTIO_VSOCK_TYPE_STREAM 1
#define VIRTIO_VSOCK_OP_REQUEST 1
#define VIRTIO_VSOCK_OP_RESPONSE 2
#define VIRTIO_VSOCK_OP_RST 3
#define VIRTIO_VSOCK_OP_SHUTDOWN 4
#define VIRTIO_VSOCK_OP_RW 5
#define VIRTIO_VSOCK_OP_CREDIT_UPDATE 6
#define VIRTIO_VSOCK_OP_CREDIT_REQUEST 7
#define VIRTIO_VSOCK_SHUTDOWN_RCV 1
#define VIRTIO_VSOCK_SHUTDOWN_SEND 2

#endif
