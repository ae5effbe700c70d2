internal import GuestImages
internal import VMBuilder

/// The guest for any VMM, as a file that one can boot.
public enum GuestFile: String, Sendable, CaseIterable {
  /// 64-bit ELF with the note of PVH: QEMU, cloud-hypervisor, crosvm, Firecracker.
  case elf
  /// The bytes as they stand at 1 MiB, to be entered there in 32-bit protected mode.
  case flat

  public var bytes: [UInt8] { self == .elf ? Self.elf(Self.image) : Self.image }

  static var image: [UInt8] {
    let image = guest_image_vmm()
    return Array(UnsafeBufferPointer(start: image.bytes, count: image.size))
  }

  private static let headerSize = 64
  private static let programHeaderSize = 56

  /// Two program headers: the image, and the note with its address.
  private static func elf(_ image: [UInt8]) -> [UInt8] {
    let base = UInt64(VMM_BASE)
    let noteAt = UInt64(headerSize + 2 * programHeaderSize)
    // XEN_ELFNOTE_PHYS32_ENTRY.
    let note = words32(4, 8, 18) + Array("Xen\0".utf8) + word64(base)
    let imageAt = (noteAt + UInt64(note.count) + 15) & ~15
    var file: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
    // An executable, for x86-64.
    file += word16(2) + word16(62) + words32(1) + word64(base) + word64(UInt64(headerSize))
    file += word64(0) + words32(0) + word16(UInt16(headerSize)) + word16(UInt16(programHeaderSize))
    file += word16(2) + word16(0) + word16(0) + word16(0)
    file += programHeader(type: 1, flags: 7, imageAt, base, UInt64(image.count), align: 16)
    file += programHeader(type: 4, flags: 4, noteAt, noteAt, UInt64(note.count), align: 4)
    file += note
    return file + [UInt8](repeating: 0, count: Int(imageAt) - file.count) + image
  }

  private static func programHeader(
    type: UInt32, flags: UInt32, _ offset: UInt64, _ address: UInt64, _ size: UInt64, align: UInt64
  ) -> [UInt8] {
    words32(type, flags) + word64(offset) + word64(address) + word64(address) + word64(size)
      + word64(size) + word64(align)
  }

  private static func word16(_ value: UInt16) -> [UInt8] { little(UInt64(value), 2) }
  private static func word64(_ value: UInt64) -> [UInt8] { little(value, 8) }
  private static func words32(_ values: UInt32...) -> [UInt8] {
    values.flatMap { little(UInt64($0), 4) }
  }

  private static func little(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }
}
