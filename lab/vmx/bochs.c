// What a host asks of Bochs, without any driver:
//
//   bochs disk N   writes what it reads to the Nth ATA disk
//   bochs off      ends Bochs

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <unistd.h>

enum { sector_bytes = 512, write_sectors = 0x30, busy = 0x80, wants_data = 8 };

// Takes as much as there is, up to a sector, and fills the rest with zeros: what is left of it.
static size_t sector(char *bytes) {
  memset(bytes, 0, sector_bytes);
  size_t length = 0;
  ssize_t got;
  while (length < sector_bytes && (got = read(0, bytes + length, sector_bytes - length)) > 0)
    length += got;
  return length;
}

static void await(unsigned short base, int wanted) {
  int state;
  do
    state = inb(base + 7);
  while (state & busy || (state & wanted) != wanted);
}

static void write_disk(int number) {
  unsigned short base = number < 2 ? 0x1f0 : 0x170;
  char bytes[sector_bytes];
  outb(2, base + 0x206);
  for (unsigned place = 0; sector(bytes); place++) {
    outb(0xe0 | (number & 1) << 4 | (place >> 24 & 15), base + 6);
    outb(1, base + 2);
    outb(place, base + 3);
    outb(place >> 8, base + 4);
    outb(place >> 16, base + 5);
    outb(write_sectors, base + 7);
    await(base, wants_data);
    outsw(base, bytes, sector_bytes / 2);
    await(base, 0);
  }
}

int main(int count, char **arguments) {
  if (iopl(3)) {
    perror("the kernel needs CONFIG_X86_IOPL_IOPERM=y: iopl");
    return 1;
  }
  if (count == 3 && !strcmp(arguments[1], "disk"))
    write_disk(atoi(arguments[2]));
  else if (count == 2 && !strcmp(arguments[1], "off"))
    for (const char *letter = "Shutdown"; *letter; letter++) outb(*letter, 0x8900);
  else
    return 64;
}
