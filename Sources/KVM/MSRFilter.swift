/// Which MSR accesses of the guest KVM handles itself, and which it denies or sends to user space.
///
/// A denied access faults in the guest, unless `KVM_CAP_X86_USER_SPACE_MSR` was enabled with
/// `MSRExitReasons.filter`: then it ends the run with `VCPUExit.readMSR` or `.writeMSR`.
public struct MSRFilter: Hashable, Sendable {
  /// Whether KVM handles the MSRs that no range covers.
  public var allowsByDefault: Bool

  /// At most 16 ranges, none of which overlap.
  public var ranges: [Range]

  public init(allowsByDefault: Bool = true, ranges: [Range] = []) {
    self.allowsByDefault = allowsByDefault
    self.ranges = ranges
  }
}

extension MSRFilter {
  /// The directions of access that a range of the filter decides.
  public struct Access: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32

    public init(rawValue: UInt32) {
      self.rawValue = rawValue
    }

    /// RDMSR; the kernel's name is `KVM_MSR_FILTER_READ`.
    public static let read = Access(rawValue: 1)

    /// WRMSR; the kernel's name is `KVM_MSR_FILTER_WRITE`.
    public static let write = Access(rawValue: 2)
  }

  /// Consecutive MSRs with one bit each: 1 allows the accesses in `flags`, 0 denies them.
  public struct Range: Hashable, Sendable {
    /// The accesses that the bits decide.
    public var flags: Access

    /// The index of the first MSR.
    public var base: UInt32

    /// The number of MSRs.
    public var count: UInt32

    /// One bit per MSR, lowest bit of the first byte first.
    public var bitmap: [UInt8]

    public init(flags: Access, base: UInt32, count: UInt32, bitmap: [UInt8]) {
      self.flags = flags
      self.base = base
      self.count = count
      self.bitmap = bitmap
    }

    /// Denies every MSR of an interval of indices.
    public init(denying msrs: ClosedRange<UInt32>, flags: Access = [.read, .write]) {
      let count = msrs.upperBound - msrs.lowerBound + 1
      self.init(
        flags: flags, base: msrs.lowerBound, count: count,
        bitmap: [UInt8](repeating: 0, count: (Int(count) + 7) / 8))
    }
  }
}

/// Why KVM sends an MSR access to user space, as the argument of `KVM_CAP_X86_USER_SPACE_MSR`.
public struct MSRExitReasons: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// The access is invalid; the kernel's name is `KVM_MSR_EXIT_REASON_INVAL`.
  public static let invalid = MSRExitReasons(rawValue: 1)

  /// KVM does not know the MSR; the kernel's name is `KVM_MSR_EXIT_REASON_UNKNOWN`.
  public static let unknown = MSRExitReasons(rawValue: 2)

  /// The filter denied the access; the kernel's name is `KVM_MSR_EXIT_REASON_FILTER`.
  public static let filter = MSRExitReasons(rawValue: 4)
}
