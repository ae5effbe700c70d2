/// How KVM treats the guest's writes to a memory slot.
public struct MemoryRegionFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// KVM notes which pages are written; the kernel's name is `KVM_MEM_LOG_DIRTY_PAGES`.
  public static let logDirtyPages = MemoryRegionFlags(rawValue: 1)

  /// A write ends the run with `VCPUExit.mmioWrite`; the kernel's name is `KVM_MEM_READONLY`.
  public static let readOnly = MemoryRegionFlags(rawValue: 2)
}
