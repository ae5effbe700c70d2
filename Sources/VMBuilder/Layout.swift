internal import GuestImages

/// Where things stand in a machine's guest-physical memory.
///
/// Everything that a real-mode guest touches is below 1 MiB, which is the case for the first 28 vCPUs.
public enum Layout {
  /// The real-mode interrupt vector table: the CPU wants it here.
  static let interruptVectors: UInt64 = 0
  /// Three pages: PML4, PDPT and page directory, one-to-one for the first GiB.
  static let pageTables: UInt64 = 0x2000
  /// Images, one after the other.
  static let images: UInt64 = 0x8000
  static let imageSpacing: UInt64 = 0x1000
  /// One page that scenarios may use for what vCPUs share.
  public static let shared: UInt64 = 0x1f000
  /// One block per vCPU from here on.
  static let vcpuBlocks: UInt64 = 0x20000
  static let vcpuBlockSize: UInt64 = 0x8000

  /// Three pages below 4 GiB that no memory slot holds.
  static let realModeTaskState: UInt64 = 0xfffb_d000

  static let pageSize: UInt64 = 0x1000

  static func block(_ vcpu: Int) -> UInt64 { vcpuBlocks + UInt64(vcpu) * vcpuBlockSize }

  /// GDT, TSS, IDT and, downwards from its end, the stack.
  static func system(_ vcpu: Int) -> UInt64 { block(vcpu) }
  static func mailbox(_ vcpu: Int) -> UInt64 { block(vcpu) + 0x1000 }
  /// Two pages for clock records: one to register in, one to move to.
  public static func clockPage(_ vcpu: Int, second: Bool = false) -> UInt64 {
    block(vcpu) + (second ? 0x3000 : 0x2000)
  }

  /// What CPUs and the agents write by themselves: page tables, and each vCPU's system page and mailbox.
  public static func guestOwned(_ vcpus: [Int]) -> [Range<UInt64>] {
    [pageTables..<pageTables + 3 * pageSize]
      + vcpus.map { system($0)..<mailbox($0) + pageSize }
  }

  /// Whether guests, or whoever asks them, write this page as they run: page tables, system pages, mailboxes.
  public static func isScratch(_ address: UInt64, highest vcpu: Int) -> Bool {
    if address < vcpuBlocks {
      return (pageTables..<pageTables + 3 * pageSize).contains(address)
    }
    return address < block(vcpu + 1) && (address - vcpuBlocks) % vcpuBlockSize < 2 * pageSize
  }
  /// Where a vCPU's loops leave one stretch for each version of a record: 16 KiB.
  static func trace(_ vcpu: Int) -> UInt64 { mailbox(vcpu) + UInt64(TRACE_FROM_MAILBOX) }

  /// Bytes of memory for vCPUs with ids up to `highest`: whole 2 MiB pages.
  package static func memorySize(highest vcpu: Int) -> Int {
    let large = 2 << 20
    return (Int(block(vcpu + 1)) + large - 1) / large * large
  }
}
