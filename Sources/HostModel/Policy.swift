internal import ABIChecker

/// What was on the table in 2015: whether, and when, a guest's write of the system-time MSR may restart time.
public enum Policy: String, CaseIterable, Sendable {
  /// Never: time is the VM's. What Linux did before 4.2, and does since 4.3.
  case keep
  /// Whenever vCPU 0's guest writes, and every record has PVCLOCK_COUNTS_FROM_ZERO. What Linux 4.2 did.
  case countsFromZero = "counts-from-zero"
  /// The same, only if vCPU 0 wrote the new MSR.
  case countsFromZeroUnlessOldMSR = "counts-from-zero-unless-old-msr"
  /// Only if the guest asked for it. How was left open; here a bit of CPUID offers it, and by bit 1 of the value, which a 4-byte
  /// aligned address leaves free, the guest asks.
  case optIn = "opt-in"

  var summary: String {
    switch self {
    case .keep: "time is never restarted: Linux before 4.2, and since 4.3"
    case .countsFromZero: "each write of vCPU 0 restarts time: Linux 4.2"
    case .countsFromZeroUnlessOldMSR: "the same, unless vCPU 0 writes the old MSR"
    case .optIn: "a write of vCPU 0 restarts time if it asks for that"
    }
  }

  /// The bits of the MSR's value that are not address.
  var controlBits: UInt64 { self == .optIn ? 1 | DiscussionGuest.optInRequest : 1 }

  func restartsTime(at write: Access, _ value: UInt64) -> Bool {
    switch self {
    case .keep: false
    case .countsFromZero: true
    case .countsFromZeroUnlessOldMSR: write.msr == MSR.systemTime
    case .optIn: write.msr == MSR.systemTime && value & DiscussionGuest.optInRequest != 0
    }
  }

  /// Whether the host says by a flag that it restarts time.
  var countsFromZero: Bool { self != .keep }
}
