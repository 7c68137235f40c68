/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/fake_image.h"

#include <string.h>
#include <sys/mman.h>

#include "vmm/base/bytes.h"
#include "vmm/base/cdefs.h"
#include "vmm/base/fd.h"

static void put_phdr(uint8_t *elf, int i, uint32_t type, uint64_t off, uint64_t gpa, uint64_t filesz, uint64_t memsz)
{
	le32_put(elf + ELF_P(i, ELF_P_TYPE), type);
	le64_put(elf + ELF_P(i, ELF_P_OFFSET), off);
	le64_put(elf + ELF_P(i, ELF_P_VADDR), gpa | UINT64_C(0xffffffff80000000));
	le64_put(elf + ELF_P(i, ELF_P_PADDR), gpa);
	le64_put(elf + ELF_P(i, ELF_P_FILESZ), filesz);
	le64_put(elf + ELF_P(i, ELF_P_MEMSZ), memsz);
}

void fake_elf(uint8_t out[FAKE_ELF_LEN], bool with_pvh_note)
{
	static const uint8_t ident[8] = {0x7f, 'E', 'L', 'F', 2, 1, 1, 0};
	uint8_t *note = out + FAKE_ELF_NOTES;

	memset(out, 0, FAKE_ELF_LEN);
	memcpy(out, ident, sizeof(ident));
	le16_put(out + ELF_E_TYPE, 2);
	le16_put(out + ELF_E_MACHINE, 62);
	le32_put(out + 20, 1);
	le64_put(out + ELF_E_ENTRY, FAKE_ELF_TEXT);
	le64_put(out + ELF_E_PHOFF, FAKE_ELF_PHDRS);
	le16_put(out + 52, 64);
	le16_put(out + ELF_E_PHENTSIZE, 56);
	le16_put(out + ELF_E_PHNUM, FAKE_ELF_N_PHDRS);
	put_phdr(out, 0, 1, 0x1000, FAKE_ELF_TEXT, 0x1000, 0x1000);
	put_phdr(out, 1, 1, 0x2000, FAKE_ELF_DATA, 0x800, 0x3000);
	put_phdr(out, 2, 4, FAKE_ELF_NOTES, 0, FAKE_ELF_NOTES_LEN, FAKE_ELF_NOTES_LEN);
	memset(out + 0x1000, 0xcc, 0x1000);
	memset(out + 0x2000, 0xdd, 0x800);

	/* Name and contents of the first have lengths that need padding. */
	le32_put(note, 6);
	le32_put(note + 4, 10);
	le32_put(note + 8, 18);
	memcpy(note + 12, "Linux", 6);
	note += 12 + 8 + 12;
	le32_put(note, 4);
	le32_put(note + 4, 8);
	le32_put(note + 8, with_pvh_note ? 18 : 19);
	memcpy(note + 12, "Xen", 4);
	le64_put(note + 16, FAKE_ELF_PVH_ENTRY);
}

void fake_bzimage(uint8_t out[FAKE_BZIMAGE_LEN])
{
	memset(out, 0, FAKE_BZIMAGE_LEN);
	out[0x1f1] = 2;
	le32_put(out + 0x1f4, FAKE_BZIMAGE_PAYLOAD / 16);
	le16_put(out + 0x1fe, 0xaa55);
	out[0x200] = 0xeb;
	out[0x201] = 0x6a; /* the header ends at 0x26c */
	memcpy(out + 0x202, "HdrS", 4);
	le16_put(out + 0x206, 0x020f);
	out[0x211] = 0x81;
	le32_put(out + 0x214, 0x100000);
	le32_put(out + 0x22c, 0x7fffffff);
	le32_put(out + 0x230, 0x200000);
	out[0x234] = 1;
	le16_put(out + 0x236, 0x1);
	le32_put(out + 0x238, 2047);
	le64_put(out + 0x250, 0x1234); /* setup_data: must not get through */
	le64_put(out + 0x258, FAKE_BZIMAGE_PREF);
	le32_put(out + 0x260, FAKE_BZIMAGE_INIT_SIZE);
	memset(out + FAKE_BZIMAGE_SETUP, 0xee, FAKE_BZIMAGE_PAYLOAD);
}

int fake_file(const void *bytes, size_t len)
{
	int fd = memfd_create("fake image", MFD_CLOEXEC);

	must(fd >= 0);
	must(fd_write_full(fd, bytes, len) == 0);
	return fd;
}
