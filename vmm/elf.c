/* SPDX-License-Identifier: Apache-2.0 */
/* ELF64 kernel images: see elf.h. Offsets are those of the System V ABI, "Object Files". */
#include "vmm/elf.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/base/bytes.h"
#include "vmm/base/checked.h"

/* e_ident and the ELF header. */
#define EI_CLASS 4
#define EI_DATA 5
#define EI_VERSION 6
#define CLASS_64 2
#define DATA_LITTLE 1
#define E_TYPE 16
#define E_MACHINE 18
#define E_ENTRY 24
#define E_PHOFF 32
#define E_SHOFF 40
#define E_PHENTSIZE 54
#define E_PHNUM 56
#define E_SHENTSIZE 58
#define E_SHNUM 60
#define E_SHSTRNDX 62

#define TYPE_EXEC 2
#define TYPE_DYN 3
#define MACHINE_X86_64 62

/* Program headers. */
#define P_TYPE 0
#define P_OFFSET 8
#define P_VADDR 16
#define P_PADDR 24
#define P_FILESZ 32
#define P_MEMSZ 40
#define P_ALIGN 48
#define PT_LOAD 1
#define PT_NOTE 4

static const uint8_t elf_magic[4] = {0x7f, 'E', 'L', 'F'};

bool elf_is_elf(const uint8_t *bytes, size_t len)
{
	return len >= sizeof(elf_magic) && memcmp(bytes, elf_magic, sizeof(elf_magic)) == 0;
}

static const char *machine_name(uint16_t machine)
{
	switch (machine) {
	case 3:
		return "i386 (32 bits)";
	case 8:
		return "MIPS";
	case 21:
		return "64-bit POWER";
	case 22:
		return "s390";
	case 40:
		return "32-bit ARM";
	case 183:
		return "arm64";
	case 243:
		return "RISC-V";
	case 258:
		return "LoongArch";
	default:
		return "another processor";
	}
}

/* What is in e_ident and the type: is it an image for this machine at all? */
static int check_kind(const uint8_t *bytes, struct err *e)
{
	uint16_t type = le16_get(bytes + E_TYPE);
	uint16_t machine = le16_get(bytes + E_MACHINE);

	if (bytes[EI_DATA] != DATA_LITTLE)
		return err_set(e, -ENOEXEC, "The kernel image is a big-endian ELF file; an x86-64 vmlinux is needed");
	if (bytes[EI_CLASS] != CLASS_64)
		return err_set(e, -ENOEXEC,
			       "The kernel image is a 32-bit ELF file for %s; a 64-bit x86-64 vmlinux is needed",
			       machine_name(machine));
	if (machine != MACHINE_X86_64)
		return err_set(e, -ENOEXEC,
			       "The kernel image is an ELF file for %s (machine %u); an x86-64 vmlinux is needed",
			       machine_name(machine), machine);
	if (bytes[EI_VERSION] != 1)
		return err_set(e, -ENOEXEC, "The kernel image has ELF version %u; only 1 exists", bytes[EI_VERSION]);
	if (type != TYPE_EXEC && type != TYPE_DYN)
		return err_set(e, -ENOEXEC,
			       "The kernel image is an ELF file of type %u (an object file, module or core dump); "
			       "an executable vmlinux is needed",
			       type);
	return 0;
}

int elf_parse_header(const uint8_t *bytes, size_t len, uint64_t file_len, struct elf_header *out, struct err *e)
{
	struct elf_header h = {0};
	uint16_t phdr_len, n_phdrs, n_shdrs;
	int rc;

	if (len < ELF_HEADER_LEN || file_len < len)
		return err_set(e, -ENOEXEC,
			       "The kernel image is an ELF file of %" PRIu64 " bytes, shorter than its header of %d: it is cut off",
			       file_len, ELF_HEADER_LEN);
	rc = check_kind(bytes, e);
	if (rc < 0)
		return rc;

	h.entry = le64_get(bytes + E_ENTRY);
	h.phdr_off = le64_get(bytes + E_PHOFF);
	phdr_len = le16_get(bytes + E_PHENTSIZE);
	n_phdrs = le16_get(bytes + E_PHNUM);
	if (n_phdrs == 0)
		return err_set(e, -ENOEXEC, "The kernel image is an ELF file without program headers: nothing to load");
	if (phdr_len != ELF_PHDR_LEN)
		return err_set(e, -ENOEXEC, "The kernel image has program headers of %u bytes; they must have %d",
			       phdr_len, ELF_PHDR_LEN);
	if (n_phdrs > ELF_MAX_PHDRS)
		return err_set(e, -ENOEXEC, "The kernel image has %u program headers; a kernel has fewer than %d",
			       n_phdrs, ELF_MAX_PHDRS);
	h.n_phdrs = n_phdrs;
	if (!range_within(h.phdr_off, (uint64_t)n_phdrs * ELF_PHDR_LEN, file_len))
		return err_set(e, -ENOEXEC,
			       "The kernel image is cut off: its program headers at offset %" PRIu64
			       " lie beyond the end of the file at %" PRIu64,
			       h.phdr_off, file_len);

	/* Sections only serve to learn more about an image that boots without them: ignored when they are odd. */
	h.shdr_off = le64_get(bytes + E_SHOFF);
	h.names_index = le16_get(bytes + E_SHSTRNDX);
	n_shdrs = le16_get(bytes + E_SHNUM);
	if (n_shdrs <= ELF_MAX_SHDRS && le16_get(bytes + E_SHENTSIZE) == ELF_SHDR_LEN && h.names_index < n_shdrs &&
	    range_within(h.shdr_off, (uint64_t)n_shdrs * ELF_SHDR_LEN, file_len))
		h.n_shdrs = n_shdrs;
	*out = h;
	return 0;
}

static int parse_load(const uint8_t *phdr, uint32_t index, uint64_t file_len, struct image_plan *plan, struct err *e)
{
	struct image_segment seg = {
		.file_off = le64_get(phdr + P_OFFSET),
		.file_len = le64_get(phdr + P_FILESZ),
		.gpa = GPA(le64_get(phdr + P_PADDR)),
		.mem_len = le64_get(phdr + P_MEMSZ),
		.vaddr = le64_get(phdr + P_VADDR),
	};

	if (seg.file_len > seg.mem_len)
		return err_set(e, -ENOEXEC,
			"Program header %u of the kernel image has %" PRIu64 " bytes in the file but only %" PRIu64
			" in memory",
			index, seg.file_len, seg.mem_len);
	if (!range_within(seg.file_off, seg.file_len, file_len))
		return err_set(e, -ENOEXEC,
			"The kernel image is cut off: program header %u needs %" PRIu64 " bytes at offset %" PRIu64
			", the file has %" PRIu64,
			index, seg.file_len, seg.file_off, file_len);
	if (seg.mem_len == 0)
		return 0;
	if (plan->n_segments == IMAGE_MAX_SEGMENTS)
		return err_set(e, -ENOEXEC, "The kernel image has more than %d segments to load", IMAGE_MAX_SEGMENTS);
	plan->segment[plan->n_segments++] = seg;
	return 0;
}

static void parse_note(const uint8_t *phdr, uint64_t file_len, struct elf_notes *notes)
{
	struct elf_note_range note = {
		.off = le64_get(phdr + P_OFFSET),
		.len = le64_get(phdr + P_FILESZ),
		.align = le64_get(phdr + P_ALIGN) == 8 ? 8 : 4,
	};

	if (note.len == 0 || note.len > ELF_MAX_NOTE_LEN || !range_within(note.off, note.len, file_len))
		return;
	if (notes->n_ranges < ELF_MAX_NOTES)
		notes->range[notes->n_ranges++] = note;
}

int elf_parse_phdrs(const struct elf_header *header, const uint8_t *phdrs, uint64_t file_len, struct image_plan *plan,
		    struct elf_notes *notes, struct err *e)
{
	struct image_plan p = {.entry = header->entry};
	struct elf_notes found = {0};
	uint32_t i;
	int rc;

	must(header->n_phdrs <= ELF_MAX_PHDRS);
	for (i = 0; i < header->n_phdrs; i++) {
		const uint8_t *phdr = phdrs + (size_t)i * ELF_PHDR_LEN;

		switch (le32_get(phdr + P_TYPE)) {
		case PT_LOAD:
			rc = parse_load(phdr, i, file_len, &p, e);
			if (rc < 0)
				return rc;
			break;
		case PT_NOTE:
			parse_note(phdr, file_len, &found);
			break;
		default:
			break;
		}
	}
	*plan = p;
	*notes = found;
	return 0;
}
