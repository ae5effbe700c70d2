import PVClock
import Testing

@testable import ABIChecker

/// When a record may be from before its vCPU's TSC was moved.
@Suite struct TSCMovesTests {
  static func after(_ steps: (inout HistoryBuilder) -> Void) -> TSCMoves {
    var host = HistoryBuilder()
    host.movesBetweenCPUs = false
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    steps(&host)
    var moves = TSCMoves()
    for event in host.events { _ = moves.take(event) }
    return moves
  }

  typealias Steps = @Sendable (inout HistoryBuilder) -> Void
  static let moves: [Steps] = [
    { $0.setTSCOffset(0, 5) }, { $0.hostWriteTSC(0, 1 << 60) }, { $0.setTSCKHz(0, 2_596_119) },
    { $0.hostWriteAdjust(0, 9) }, { $0.guestWriteTSC(0, MSR.tsc, 0) },
    { $0.guestWriteTSC(0, MSR.tscAdjust, 1 << 50) },
  ]

  @Test(arguments: moves.indices)
  func aMoveMakesTheRecordStale(at index: Int) {
    #expect(Self.after(Self.moves[index]).stale == [0])
  }

  @Test(arguments: moves.indices)
  func aWriteOfTheMSRRenewsIt(at index: Int) {
    #expect(
      Self.after {
        Self.moves[index](&$0)
        $0.register(0)
      }.stale == [])
  }

  /// Before the move or after it; a write with bit 0 clear makes none.
  @Test(arguments: moves[..<4].indices)
  func aRegistrationByTheHostRenewsItAtTheNextEntry(at index: Int) {
    for isFirst in [true, false] {
      for value: UInt64 in [0x10001, 0x10000] {
        let stale = Self.after {
          if isFirst { $0.hostWriteMSR(0, MSR.systemTime, value) }
          Self.moves[index](&$0)
          if !isFirst { $0.hostWriteMSR(0, MSR.systemTime, value) }
          $0.enter(0)
        }.stale
        #expect(stale == (value & 1 == 1 ? [] : [0]))
      }
    }
    // The entry has served the registration.
    #expect(
      Self.after {
        $0.hostWriteMSR(0, MSR.systemTime, 0x10001)
        $0.enter(0)
        Self.moves[index](&$0)
        $0.enter(0)
      }.stale == [0])
  }

  @Test func aSettingOfTheClockRenewsItAtTheNextEntry() {
    let set: Steps = { host in
      Self.moves[0](&host)
      host.setClock(7)
    }
    #expect(Self.after(set).stale == [0])
    #expect(
      Self.after {
        set(&$0)
        $0.enter(1)
      }.stale == [0])
    #expect(
      Self.after {
        set(&$0)
        $0.enter(0)
      }.stale == [])
    #expect(
      Self.after {
        set(&$0)
        Self.moves[1](&$0)
        $0.enter(0)
      }.stale == [0])
  }

  /// Only what the host saw while the vCPU stayed out of the guest tells an old record from a new one.
  @Test func aRecordThatChangedIsNew() {
    for (looks, entersBefore, isStale) in [
      (true, false, false), (true, true, true), (false, false, true),
    ] {
      let moves = Self.after { host in
        if looks { host.look(0) }
        if entersBefore { host.enter(0) }
        host.setTSCOffset(0, 5)
        host.read(0)
      }
      #expect(moves.stale == (isStale ? [0] : []))
    }
  }

  @Test func aRecordThatStaysIsStale() {
    let moves = Self.after { host in
      host.look(0)
      host.setTSCOffset(0, 5, updates: false)
      for _ in 0..<3 { host.read(0) }
    }
    #expect(moves.stale == [0])
  }

  @Test func theGuestsOwnScribblesProveNothing() {
    let moves = Self.after { host in
      host.look(0)
      host.setTSCOffset(0, 5, updates: false)
      host.poke(0x10000, 8)
      host.read(0)
    }
    #expect(moves.stale == [0])
  }

  @Test func anOffsetIsKnownWhenItIsRecordedAgain() {
    #expect(Self.after { $0.hostWriteTSC(0, 1 << 60) }.offsetUnknown == [0])
    #expect(
      Self.after {
        $0.hostWriteTSC(0, 1 << 60)
        $0.noteOffset(0)
      }.offsetUnknown == [])
  }

  /// It may be moved at every entry.
  @Test func theOffsetOfARetunedTSCIsNeverKnown() {
    #expect(
      Self.after {
        $0.setTSCKHz(0, 2 * SimulatedTime.tscKHz)
        $0.noteOffset(0)
      }.offsetUnknown == [0])
  }

  @Test func anotherMachineStartsAgain() {
    let moves = Self.after {
      $0.hostWriteTSC(0, 1 << 60)
      $0.createMachine()
    }
    #expect(moves.stale == [] && moves.offsetUnknown == [])
  }

  /// What a guest computes from an old record belongs to the rule on the write alone.
  @Test func noOtherRuleLooksAtAnOldRecord() throws {
    for msr in [MSR.tsc, MSR.tscAdjust] {
      var host = HistoryBuilder()
      host.machine(0)
      for _ in 0..<3 { host.register(0) }
      host.getClock()
      host.guestWriteTSC(0, msr, 1 << 50, updates: false)
      host.noteOffset(0)
      host.read(0)
      host.look(0)
      host.getClock()
      host.loop(0) { $0.backwards = 3 }
      host.look(0)
      host.register(0)
      host.read(0)
      host.getClock()
      let rules = Rule.all.filter {
        $0.everywhere || $0.isExercised(by: "tsc-write") || $0.isExercised(by: "tsc-adjust")
      }
      let broken = rules.filter { $0.judge(host.history).isBroken }.map(\.id)
      #expect(
        broken == [msr == MSR.tsc ? "TSC-GUESTWRITE-CONTINUES" : "TSCADJ-GUESTWRITE-CONTINUES"])
    }
  }
}
