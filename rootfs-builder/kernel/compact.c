// SPDX-License-Identifier: Apache-2.0
/*
 * Making a vmlinux dense: list the pieces of each segment, lay them out one after the other, write headers for them.
 *
 * Layout of the result: ELF header, program headers, pieces (each at an offset congruent to its address modulo a page), the
 * section names, section headers.
 */
#include "rootfs-builder/kernel/compact.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rootfs-builder/kernel/bzimage.h"
#include "vmm/base/err.h"
#include "vmm/base/fd.h"

#define PAGE 4096
#define MIN_GAP_PAGES 16
#define MAX_PIECES 48

/* A run of bytes that is kept: where it is in the old file, where in the new one, and its program header. */
struct piece {
	size_t from;
	size_t to;
	Elf64_Phdr ph;
};

struct layout {
	struct piece pieces[MAX_PIECES];
	size_t n_pieces;
	const Elf64_Phdr *note; /* into the old file's copy; NULL = none */
};

/* Whether the @len bytes at @p of the segment @ph are filler: zeros, or, where the guest can't write, the int3 of text. */
static int is_filler(const Elf64_Phdr *ph, const uint8_t *p, size_t len)
{
	if (p[0] != 0x00 && (p[0] != 0xcc || ph->p_flags & PF_W))
		return 0;
	return len == 1 || memcmp(p, p + 1, len - 1) == 0;
}

/* Add the part of segment @ph from its byte @start to @end. */
static int add_piece(struct layout *l, const Elf64_Phdr *ph, uint64_t start, uint64_t end, struct err *e)
{
	struct piece *p = &l->pieces[l->n_pieces];

	if (start == end)
		return 0;
	if (l->n_pieces == MAX_PIECES)
		return err_set(e, -EINVAL, "the kernel's segments have more than %d parts", MAX_PIECES);
	p->from = (size_t)(ph->p_offset + start);
	p->ph = *ph;
	p->ph.p_vaddr += start;
	p->ph.p_paddr += start;
	p->ph.p_filesz = p->ph.p_memsz = end - start;
	p->ph.p_align = PAGE;
	l->n_pieces++;
	return 0;
}

/* Cut the segment @ph at its runs of filler. Its last piece keeps the memory behind the file's bytes. */
static int cut_segment(struct layout *l, const uint8_t *elf, const Elf64_Phdr *ph, struct err *e)
{
	uint64_t start = 0, gap = 0; /* the piece being grown; filler bytes seen at its end */
	size_t first = l->n_pieces;

	for (uint64_t at = 0; at < ph->p_filesz; at += PAGE) {
		uint64_t n = ph->p_filesz - at < PAGE ? ph->p_filesz - at : PAGE;

		if (is_filler(ph, elf + ph->p_offset + at, n)) {
			gap += n;
			continue;
		}
		if (gap >= MIN_GAP_PAGES * PAGE) {
			int rc = add_piece(l, ph, start, at - gap, e);

			if (rc < 0)
				return rc;
			start = at;
		}
		gap = 0;
	}
	uint64_t end = gap >= MIN_GAP_PAGES * PAGE ? ph->p_filesz - gap : ph->p_filesz;
	int rc = add_piece(l, ph, start, end, e);
	if (rc < 0 || l->n_pieces == first)
		return rc;
	l->pieces[l->n_pieces - 1].ph.p_memsz = ph->p_memsz - start;
	return 0;
}

/* The new file offset of the @len bytes at @from in the old file, or 0 when no piece holds them all. */
static size_t moved_to(const struct layout *l, uint64_t from, uint64_t len)
{
	for (size_t i = 0; i < l->n_pieces; i++) {
		const struct piece *p = &l->pieces[i];

		if (from >= p->from && len <= p->ph.p_filesz && from - p->from <= p->ph.p_filesz - len)
			return p->to + (size_t)(from - p->from);
	}
	return 0;
}

/* Give each piece its place behind the headers. Returns the end of the last. */
static size_t place_pieces(struct layout *l)
{
	size_t at = sizeof(Elf64_Ehdr) + (l->n_pieces + 1) * sizeof(Elf64_Phdr);

	for (size_t i = 0; i < l->n_pieces; i++) {
		struct piece *p = &l->pieces[i];

		at += (size_t)((p->ph.p_vaddr - at) % PAGE);
		p->to = at;
		p->ph.p_offset = at;
		at += (size_t)p->ph.p_filesz;
	}
	return (at + 7) & ~(size_t)7;
}

/* Copy the section headers to @out, with the places their bytes have now. */
static void move_sections(const struct layout *l, const uint8_t *elf, const Elf64_Ehdr *old, size_t names_to, uint8_t *out)
{
	Elf64_Shdr sh;

	for (size_t i = 0; i < old->e_shnum; i++) {
		memcpy(&sh, elf + old->e_shoff + i * sizeof(sh), sizeof(sh));
		if (sh.sh_type == SHT_NULL)
			memset(&sh, 0, sizeof(sh));
		else if (i == old->e_shstrndx && sh.sh_type == SHT_STRTAB)
			sh.sh_offset = names_to;
		else if (sh.sh_type != SHT_NOBITS) {
			sh.sh_offset = moved_to(l, sh.sh_offset, sh.sh_size);
			if (!sh.sh_offset)
				sh.sh_type = SHT_NOBITS;
		}
		memcpy(out + i * sizeof(sh), &sh, sizeof(sh));
	}
}

static int write_compact(struct layout *l, const uint8_t *elf, const Elf64_Ehdr *old, uint8_t **out, size_t *out_len,
			 struct err *e)
{
	size_t pieces_end = place_pieces(l), names_len = 0, n_phdrs = l->n_pieces + (l->note ? 1 : 0), shoff;
	Elf64_Ehdr eh = *old;
	Elf64_Shdr names;
	Elf64_Phdr note;
	uint8_t *buf;

	if (old->e_shnum && old->e_shstrndx < old->e_shnum) {
		memcpy(&names, elf + old->e_shoff + old->e_shstrndx * sizeof(names), sizeof(names));
		if (names.sh_type == SHT_STRTAB) /* only then its size was checked against the file */
			names_len = (size_t)names.sh_size;
	}
	shoff = (pieces_end + names_len + 7) & ~(size_t)7;
	*out_len = shoff + old->e_shnum * sizeof(Elf64_Shdr);
	buf = calloc(1, *out_len);
	if (!buf)
		return err_set(e, -ENOMEM, "no memory to make the kernel dense");
	eh.e_phoff = sizeof(eh);
	eh.e_phnum = (Elf64_Half)n_phdrs;
	eh.e_shoff = old->e_shnum ? shoff : 0;
	memcpy(buf, &eh, sizeof(eh));
	for (size_t i = 0; i < l->n_pieces; i++) {
		const struct piece *p = &l->pieces[i];

		memcpy(buf + sizeof(eh) + i * sizeof(p->ph), &p->ph, sizeof(p->ph));
		memcpy(buf + p->to, elf + p->from, (size_t)p->ph.p_filesz);
	}
	if (l->note) {
		note = *l->note;
		note.p_offset = moved_to(l, note.p_offset, note.p_filesz);
		memcpy(buf + sizeof(eh) + l->n_pieces * sizeof(note), &note, sizeof(note));
	}
	if (names_len > 0)
		memcpy(buf + pieces_end, elf + names.sh_offset, names_len);
	move_sections(l, elf, old, pieces_end, buf + shoff);
	*out = buf;
	return 0;
}

int kernel_compact(const uint8_t *elf, size_t len, uint8_t **out, size_t *out_len, struct err *e)
{
	AUTO_FREE Elf64_Phdr *phdrs = NULL;
	struct layout l = { 0 };
	Elf64_Ehdr eh;
	size_t size;
	int rc = kernel_elf_size(elf, len, &size, e); /* every offset below is inside the file */

	if (rc < 0)
		return rc;
	memcpy(&eh, elf, sizeof(eh));
	phdrs = calloc(eh.e_phnum + 1u, sizeof(*phdrs));
	if (!phdrs)
		return err_set(e, -ENOMEM, "no memory to make the kernel dense");
	memcpy(phdrs, elf + eh.e_phoff, eh.e_phnum * sizeof(*phdrs));
	for (size_t i = 0; i < eh.e_phnum; i++) {
		if (phdrs[i].p_type == PT_NOTE && !l.note)
			l.note = &phdrs[i];
		if (phdrs[i].p_type != PT_LOAD)
			continue;
		if (phdrs[i].p_memsz < phdrs[i].p_filesz)
			return err_set(e, -EINVAL, "segment %zu is larger in the file than in memory", i);
		rc = cut_segment(&l, elf, &phdrs[i], e);
		if (rc < 0)
			return rc;
	}
	(void)place_pieces(&l);
	if (l.note && !moved_to(&l, l.note->p_offset, l.note->p_filesz))
		return err_set(e, -EINVAL, "the kernel's notes lie outside of what is loaded");
	return write_compact(&l, elf, &eh, out, out_len, e);
}
