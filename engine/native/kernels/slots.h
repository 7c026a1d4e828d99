// Where a loaded library keeps the addresses of functions that it calls by name (the GOT), and how one is exchanged.
// Only calls of that library are led elsewhere; every other library of the process, another ggml included, stays as it is.
#pragma once
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>

// The library that an address belongs to; null if it belongs to none.
static inline link_map *library_of(void *address) {
    Dl_info info;
    link_map *map = nullptr;
    return address && dladdr1(address, &info, (void **) &map, RTLD_DL_LINKMAP) ? map : nullptr;
}

// The dynamic section holds addresses in glibc, offsets in musl.
static inline char *located(const link_map *map, ElfW(Addr) value) {
    return (char *) (value < map->l_addr ? map->l_addr + value : value);
}

// Let the library call `to` where it calls `name`. Returns how many slots were exchanged.
static inline int lead(const link_map *map, const char *name, void *to) {
    const char *strings = nullptr;
    const ElfW(Sym) *symbols = nullptr;
    struct { const char *at; size_t size; } tables[2] = {};
    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        switch (d->d_tag) {
            case DT_STRTAB: strings = located(map, d->d_un.d_ptr); break;
            case DT_SYMTAB: symbols = (const ElfW(Sym) *) located(map, d->d_un.d_ptr); break;
            case DT_JMPREL: tables[0].at = located(map, d->d_un.d_ptr); break;
            case DT_PLTRELSZ: tables[0].size = d->d_un.d_val; break;
            case DT_RELA: tables[1].at = located(map, d->d_un.d_ptr); break;
            case DT_RELASZ: tables[1].size = d->d_un.d_val; break;
        }
    }
    int exchanged = 0;
    const size_t page = (size_t) sysconf(_SC_PAGESIZE);
    for (const auto &table : tables) {
        for (const ElfW(Rela) *r = (const ElfW(Rela) *) table.at; table.at && (const char *) r < table.at + table.size; r++) {
            const auto type = ELF64_R_TYPE(r->r_info);
            if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) continue;
            if (strcmp(strings + symbols[ELF64_R_SYM(r->r_info)].st_name, name)) continue;
            void **slot = (void **) (map->l_addr + r->r_offset);
            char *start = (char *) ((uintptr_t) slot & ~(page - 1));  // a slot is aligned: never on two pages
            if (mprotect(start, page, PROT_READ | PROT_WRITE)) continue;
            __atomic_store_n(slot, to, __ATOMIC_RELEASE);
            exchanged++;
        }
    }
    return exchanged;
}

struct Led { const char *name; void *ours, *theirs; };

// The same for several functions of the library of an address: all of them or none. Returns whether it will ask here.
static inline bool lead_all(void *address, std::initializer_list<Led> functions) {
    const link_map *library = library_of(address);
    bool all = library != nullptr;
    for (const Led &f : functions) all = all && lead(library, f.name, f.ours) > 0;
    if (library && !all)
        for (const Led &f : functions) lead(library, f.name, f.theirs);
    return all;
}
