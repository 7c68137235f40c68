/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small kernel images for tests: a valid ELF vmlinux and a valid bzImage, whose bytes a test then breaks one at a
 * time.
 */
#ifndef MAYFLY_TESTS_FAKE_IMAGE_H
#define MAYFLY_TESTS_FAKE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAKE_ELF_LEN 0x3000
#define FAKE_ELF_N_PHDRS 3
#define FAKE_ELF_PHDRS 64       /* offset of the program headers: text, data, notes */
#define FAKE_ELF_NOTES 0x800    /* offset of the notes */
#define FAKE_ELF_NOTES_LEN 60   /* one of GNU's, then PHYS32_ENTRY */
#define FAKE_ELF_TEXT 0x1000000 /* 0x1000 bytes from offset 0x1000, filled with 0xcc; entry here */
#define FAKE_ELF_DATA 0x1200000 /* 0x800 bytes from offset 0x2000, filled with 0xdd; 0x3000 in memory */
#define FAKE_ELF_PVH_ENTRY 0x1000100

/* Offsets of fields, for breaking them. */
#define ELF_E_TYPE 16
#define ELF_E_MACHINE 18
#define ELF_E_ENTRY 24
#define ELF_E_PHOFF 32
#define ELF_E_PHENTSIZE 54
#define ELF_E_PHNUM 56
#define ELF_P(i, field) (FAKE_ELF_PHDRS + (i) * 56 + (field))
#define ELF_P_TYPE 0
#define ELF_P_OFFSET 8
#define ELF_P_VADDR 16
#define ELF_P_PADDR 24
#define ELF_P_FILESZ 32
#define ELF_P_MEMSZ 40

void fake_elf(uint8_t out[FAKE_ELF_LEN], bool with_pvh_note);

#define FAKE_BZIMAGE_SETUP (3 * 512) /* two setup sectors and the boot sector */
#define FAKE_BZIMAGE_PAYLOAD 0x1000  /* filled with 0xee */
#define FAKE_BZIMAGE_LEN (FAKE_BZIMAGE_SETUP + FAKE_BZIMAGE_PAYLOAD)
#define FAKE_BZIMAGE_PREF 0x1000000
#define FAKE_BZIMAGE_INIT_SIZE 0x300000

void fake_bzimage(uint8_t out[FAKE_BZIMAGE_LEN]);

/* An anonymous file (memfd) with these bytes, read position at the end. Never fails: aborts. */
int fake_file(const void *bytes, size_t len);

#endif
