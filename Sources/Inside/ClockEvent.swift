internal import ABIChecker
internal import Glibc
public import PVClock

/// The record and the guest's clocks at one moment.
public struct ClockLook: Hashable, Sendable {
  public var page: ClockPage
  /// In cycles, and in nanoseconds of CLOCK_MONOTONIC and CLOCK_REALTIME.
  public var tsc, monotonic, realtime: UInt64
  /// False where the version stayed odd.
  public var isSettled: Bool

  public init(
    page: ClockPage, tsc: UInt64, monotonic: UInt64, realtime: UInt64, isSettled: Bool = true
  ) {
    self.page = page
    self.tsc = tsc
    self.monotonic = monotonic
    self.realtime = realtime
    self.isSettled = isSettled
  }

  static func now(at record: MappedRecord) -> ClockLook {
    let (reading, isSettled) = record.read()
    return ClockLook(
      page: reading.page, tsc: reading.tsc, monotonic: clock(CLOCK_MONOTONIC),
      realtime: clock(CLOCK_REALTIME), isSettled: isSettled)
  }
}

/// What a guest notices of a pause, a migration or a restore: its clock and its TSC part.
public struct ClockEvent: Hashable, Sendable {
  public enum Kind: String, Hashable, Sendable, CaseIterable {
    /// The host says that it had stopped the guest.
    case stopped
    /// The relation of clock and TSC moved, and PVCLOCK_GUEST_STOPPED was not seen.
    case moved
    /// The TSC has another frequency.
    case frequency
    /// PVCLOCK_TSC_STABLE_BIT came or went.
    case stability
    /// No look for some time, and the record is the same: the VM was paused with its clock running on, or nothing was
    /// scheduled.
    case gap
  }

  /// Whether PVCLOCK_GUEST_STOPPED told the guest.
  public enum Told: String, Hashable, Sendable {
    case yes
    /// The flag is not set: the host did not set it, or the guest's kernel has cleared it since. In guests of 5.10 and 6.1 it
    /// is gone before a look that comes 200 ms later.
    case unseen
    /// The flag was set before: the guest's kernel had not cleared it.
    case already
  }

  public var kind: Kind
  public var before, after: ClockLook
  public var told: Told
  /// The clock after the event, less what the record before it gives for the same TSC, in nanoseconds: below 0 the clock
  /// stood still, or was set back, while the TSC ran on.
  public var moved: Int64
  /// Whether that is more than what rounding makes.
  public var isMoved: Bool

  /// How long the clock stood still while the TSC ran on, in nanoseconds.
  public var stoodStill: UInt64 { moved < 0 ? moved.magnitude : 0 }
  /// What each clock counted from the look before to the look after, in nanoseconds.
  public var clockAdvance: Int64 {
    Self.clamped(Self.time(after.page, after.tsc) - Self.time(before.page, before.tsc))
  }
  public var tscAdvance: Int64 {
    Self.clamped(Self.span(before.page.scale, Self.cycles(before.tsc, after.tsc)))
  }
  public var realtimeAdvance: Int64 { Int64(bitPattern: after.realtime &- before.realtime) }

  /// What happened from one look to the next; nil if nothing did.
  ///
  /// - Parameters:
  ///   - least: the smallest move of the clock against the TSC that is an event, in nanoseconds. A new pair of the same
  ///     clock moves it by some nanoseconds, or by what two roundings made in months.
  ///   - gap: the longest time without a look that is none.
  public init?(from before: ClockLook, to after: ClockLook, least: UInt64, gap: UInt64) {
    self.before = before
    self.after = after
    let (old, new) = (before.page, after.page)
    let moved = Self.clamped(Self.time(new, after.tsc) - Self.time(old, after.tsc))
    self.moved = moved
    let passed = Self.span(old.scale, Self.cycles(before.tsc, after.tsc))
    let isUpdated = new.version != old.version
    let wasSet = old.flags.contains(.guestStopped)
    let told: Told =
      !new.flags.contains(.guestStopped)
      ? .unseen : !wasSet ? .yes : isUpdated ? .already : .unseen
    self.told = told
    isMoved = moved.magnitude >= max(1, least)
    if told == .yes || (told == .already && isMoved) {
      kind = .stopped
    } else if old.scale != new.scale {
      kind = .frequency
    } else if isMoved {
      kind = .moved
    } else if old.flags.contains(.tscStable) != new.flags.contains(.tscStable) {
      kind = .stability
    } else if passed >= Int128(gap) {
      kind = .gap
    } else {
      return nil
    }
  }

  // MARK: Arithmetic that a TSC which restarts does not upset

  private static func cycles(_ from: UInt64, _ to: UInt64) -> Int64 {
    Int64(bitPattern: to &- from)
  }

  private static func span(_ scale: TSCScale, _ cycles: Int64) -> Int128 {
    let time = Int128(scale.nanoseconds(cycles: cycles.magnitude))
    return cycles < 0 ? -time : time
  }

  private static func time(_ page: ClockPage, _ tsc: UInt64) -> Int128 {
    Int128(page.systemTime) + span(page.scale, cycles(page.tscTimestamp, tsc))
  }

  private static func clamped(_ value: Int128) -> Int64 { Int64(clamping: value) }
}

/// Looks at a record again and again, and tells when clock and TSC part.
public struct Watcher: Sendable {
  private let record: MappedRecord
  private let least, gap: UInt64
  public private(set) var newest: ClockLook
  public private(set) var looks: UInt64 = 1
  /// Looks that showed another version than the one before.
  public private(set) var updates: UInt64 = 0

  public init(_ record: MappedRecord, least: UInt64, gap: UInt64) {
    self.record = record
    self.least = least
    self.gap = gap
    newest = ClockLook.now(at: record)
  }

  public mutating func look() -> ClockEvent? {
    let look = ClockLook.now(at: record)
    looks += 1
    // A look in the middle of an update says nothing yet.
    guard look.isSettled else { return nil }
    defer { newest = look }
    guard newest.isSettled else { return nil }
    if look.page.version != newest.page.version { updates += 1 }
    return ClockEvent(from: newest, to: look, least: least, gap: gap)
  }
}
