/// One vCPU's clock record as it lies in guest memory: 32 bytes, packed, little endian.
///
/// The corresponding C type is `struct pvclock_vcpu_time_info` (asm/pvclock-abi.h).
public struct ClockPage: Hashable, Sendable {
  /// The record's length in bytes.
  public static let size = 32

  /// `version` at 0: even at rest, odd while the host writes.
  public var version: UInt32

  /// `pad0` at 4.
  public var pad0: UInt32

  /// `tsc_timestamp` at 8: the guest's TSC, in cycles, at which `systemTime` was right.
  public var tscTimestamp: UInt64

  /// `system_time` at 16: kvmclock in nanoseconds at `tscTimestamp`.
  public var systemTime: UInt64

  /// `tsc_to_system_mul` at 24: nanoseconds per shifted cycle, in units of 2^-32.
  public var tscToSystemMultiplier: UInt32

  /// `tsc_shift` at 28: binary places by which a TSC difference is shifted left first.
  public var tscShift: Int8

  /// `flags` at 29.
  public var flags: Flags

  /// `pad[2]` at 30, read as one little-endian number.
  public var pad: UInt16

  public init(
    version: UInt32 = 0,
    pad0: UInt32 = 0,
    tscTimestamp: UInt64 = 0,
    systemTime: UInt64 = 0,
    tscToSystemMultiplier: UInt32 = 0,
    tscShift: Int8 = 0,
    flags: Flags = [],
    pad: UInt16 = 0
  ) {
    self.version = version
    self.pad0 = pad0
    self.tscTimestamp = tscTimestamp
    self.systemTime = systemTime
    self.tscToSystemMultiplier = tscToSystemMultiplier
    self.tscShift = tscShift
    self.flags = flags
    self.pad = pad
  }
}

extension ClockPage {
  /// What the host says about the clock in `flags`.
  ///
  /// Source: arch/x86/include/asm/pvclock-abi.h.
  public struct Flags: OptionSet, Hashable, Sendable, Codable {
    public let rawValue: UInt8

    public init(rawValue: UInt8) {
      self.rawValue = rawValue
    }

    /// Readings taken on different vCPUs are monotonic: `PVCLOCK_TSC_STABLE_BIT`.
    public static let tscStable = Flags(rawValue: 1 << 0)

    /// The host has paused this vCPU; the guest clears the bit: `PVCLOCK_GUEST_STOPPED`.
    public static let guestStopped = Flags(rawValue: 1 << 1)

    /// The clock starts at zero: `PVCLOCK_COUNTS_FROM_ZERO`, which broke the ABI in Linux 4.2.
    public static let countsFromZero = Flags(rawValue: 1 << 2)

    /// The bits that no host may set: all but `tscStable` and `guestStopped`.
    public static let reserved = Flags(rawValue: 0b1111_1100)
  }
}

extension ClockPage {
  /// The rate that the record gives: `tsc_to_system_mul` and `tsc_shift`.
  public var scale: TSCScale {
    TSCScale(multiplier: tscToSystemMultiplier, shift: tscShift)
  }

  /// The nanoseconds that a guest computes from this record when its TSC reads `tsc`, modulo 2^64.
  ///
  /// Source: `__pvclock_read_cycles()`; a TSC behind `tscTimestamp` is a very large difference.
  public func systemTime(atTSC tsc: UInt64) -> UInt64 {
    systemTime &+ scale.nanoseconds(cycles: tsc &- tscTimestamp)
  }

  /// Whether both records give the same time at every TSC, whatever else they say.
  public func hasSamePair(as other: ClockPage) -> Bool {
    tscTimestamp == other.tscTimestamp && systemTime == other.systemTime && scale == other.scale
  }
}

/// Saved under the kernel's field names, every field as a plain number.
extension ClockPage: Codable {
  private enum CodingKeys: String, CodingKey {
    case version
    case pad0
    case tscTimestamp = "tsc_timestamp"
    case systemTime = "system_time"
    case tscToSystemMultiplier = "tsc_to_system_mul"
    case tscShift = "tsc_shift"
    case flags
    case pad
  }
}
