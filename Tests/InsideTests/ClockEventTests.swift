import PVClock
import Testing

@testable import Inside

struct ClockEventTests {
  /// A TSC of 1 GHz: a cycle is a nanosecond.
  static let page = ClockPage(
    version: 4, tscTimestamp: 0, systemTime: 0, tscToSystemMultiplier: 1 << 31, tscShift: 1,
    flags: .tscStable)

  private func event(
    tsc: UInt64 = 100_000_000, least: UInt64 = 1000, _ change: (inout ClockPage) -> Void
  ) -> ClockEvent? {
    var page = Self.page
    change(&page)
    return ClockEvent(
      from: ClockLook(page: Self.page, tsc: 0, monotonic: 0, realtime: 7),
      to: ClockLook(page: page, tsc: tsc, monotonic: tsc, realtime: 7 + tsc), least: least,
      gap: 1_000_000_000)
  }

  /// An update at TSC 90 ms after which the clock is off by so many nanoseconds.
  private static func update(
    by nanoseconds: Int64, flags: ClockPage.Flags = .tscStable
  ) -> @Sendable (inout ClockPage) -> Void {
    {
      $0.version += 2
      $0.tscTimestamp = 90_000_000
      $0.systemTime = UInt64(90_000_000 &+ nanoseconds)
      $0.flags = flags
    }
  }

  @Test(arguments: [0, 5, -5, 999])
  func anUpdateIsNoEvent(_ nanoseconds: Int64) {
    #expect(event(Self.update(by: nanoseconds)) == nil)
  }

  @Test func aPauseIsTold() throws {
    let pause = try #require(
      event(tsc: 3_000_000_000, Self.update(by: -80_000_000, flags: [.tscStable, .guestStopped])))
    #expect(pause.kind == .stopped && pause.told == .yes)
    #expect(pause.moved == -80_000_000 && pause.stoodStill == 80_000_000)
    #expect(pause.tscAdvance == 3_000_000_000 && pause.clockAdvance == 2_920_000_000)
    #expect(pause.realtimeAdvance == 3_000_000_000)
  }

  @Test func aMigrationThatNobodyTellsOf() throws {
    let move = try #require(event(Self.update(by: 117_000_000)))
    #expect(move.kind == .moved && move.told == .unseen)
    #expect(move.moved == 117_000_000 && move.stoodStill == 0)
  }

  @Test func aTSCThatRestartsIsNoEndlessClock() throws {
    var old = Self.page
    old.tscTimestamp = 5_000_000_000
    var new = Self.page
    (new.version, new.tscTimestamp, new.systemTime) = (6, 10, 100)
    let event = try #require(
      ClockEvent(
        from: ClockLook(page: old, tsc: 5_000_000_000, monotonic: 0, realtime: 0),
        to: ClockLook(page: new, tsc: 20, monotonic: 9, realtime: 9), least: 1000,
        gap: 1_000_000_000))
    #expect(event.kind == .moved && event.tscAdvance == -4_999_999_980)
    #expect(event.moved == 110 + 4_999_999_980)
  }

  @Test func theFlagThatWasSetBefore() throws {
    var set = Self.page
    set.flags = [.tscStable, .guestStopped]
    var again = set
    Self.update(by: -70_000_000, flags: set.flags)(&again)
    func event(to page: ClockPage) -> ClockEvent? {
      ClockEvent(
        from: ClockLook(page: set, tsc: 0, monotonic: 0, realtime: 0),
        to: ClockLook(page: page, tsc: 100_000_000, monotonic: 9, realtime: 9), least: 1000,
        gap: 1_000_000_000)
    }
    #expect(event(to: set) == nil)
    #expect(event(to: again)?.told == .already)
    #expect(event(to: again)?.kind == .stopped)
    // The guest's kernel clears it without an update.
    #expect(event(to: Self.page) == nil)
  }

  @Test func otherKinds() {
    #expect(event { $0.tscToSystemMultiplier += 4000 }?.kind == .frequency)
    #expect(event { $0.flags = [] }?.kind == .stability)
    #expect(event(tsc: 2_000_000_000) { _ in }?.kind == .gap)
  }

  @Test func hostileRecordsTrapNothing() {
    for seed in 0..<200 as Range<UInt64> {
      var page = Self.page
      let number = seed &* 0x9e37_79b9_7f4a_7c15
      page.tscTimestamp = number
      page.systemTime = ~number &* 3
      page.tscShift = Int8(truncatingIfNeeded: number >> 9)
      page.tscToSystemMultiplier = UInt32(truncatingIfNeeded: number)
      let event = ClockEvent(
        from: ClockLook(page: page, tsc: number, monotonic: 0, realtime: number),
        to: ClockLook(page: Self.page, tsc: ~number, monotonic: 0, realtime: 0), least: 1, gap: 0)
      _ = event.map { ($0.stoodStill, $0.clockAdvance, $0.tscAdvance, $0.realtimeAdvance) }
    }
  }

  @Test func aWatcherSeesWhatAThreadDoes() {
    let record = MadeRecord()
    var watcher = Watcher(record.mapped, least: 1000, gap: 60_000_000_000)
    #expect(watcher.look() == nil)
    record.update()
    #expect(watcher.look() == nil && watcher.updates == 1)
    record.update {
      $0.systemTime -= 3_000_000_000
      $0.flags.insert(.guestStopped)
    }
    let event = watcher.look()
    #expect(event?.kind == .stopped && event?.told == .yes)
    #expect((2_999_999_000...3_000_001_000).contains(event?.stoodStill ?? 0))
    record.scribble { $0.version |= 1 }
    #expect(watcher.look() == nil)
  }
}
