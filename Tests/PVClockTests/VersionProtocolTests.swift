import PVClock
import Testing

/// Shared memory in which each look at the version shows the next state of a script.
private final class ScriptedMemory {
  private(set) var reads: [Int] = []
  private var states: [ClockPage]

  init(_ states: [ClockPage]) {
    self.states = states
  }

  func word(_ index: Int) -> UInt32 {
    if index == 0, !reads.isEmpty, states.count > 1 {
      states.removeFirst()
    }
    reads.append(index)
    return states[0].words[index]
  }
}

@Suite struct VersionProtocolTests {
  static let wholeRecord = [0, 1, 2, 3, 4, 5, 6, 7, 0]

  @Test(
    arguments: [
      (0, 1, 2),
      (1, 3, 4),
      (2, 3, 4),
      (0xffff_fffd, 0xffff_ffff, 0),
      (0xffff_fffe, 0xffff_ffff, 0),
      (0xffff_ffff, 1, 2),
    ] as [(UInt32, UInt32, UInt32)])
  func anUpdateGoesFromTheVersionFound(found: UInt32, during: UInt32, after: UInt32) {
    #expect(VersionProtocol.begun(found) == during)
    #expect(VersionProtocol.finished(during) == after)
    #expect(VersionProtocol.updated(found) == after)
  }

  @Test func theVersionIsOddDuringAnUpdateAndEvenAfterIt() {
    var random = SeededGenerator()
    for _ in 0..<1000 {
      let found = random.spread(UInt32.self)
      let during = VersionProtocol.begun(found)
      #expect(!VersionProtocol.isConsistent(during), "from \(found)")
      #expect(VersionProtocol.isConsistent(VersionProtocol.finished(during)), "from \(found)")
      let step: UInt32 = found % 2 == 0 ? 2 : 3
      let after = VersionProtocol.updated(found)
      #expect(VersionProtocol.advance(from: found, to: after) == step, "from \(found)")
    }
  }

  @Test(
    arguments: [(0, 0, 0), (2, 8, 6), (0xffff_fffe, 2, 4), (2, 0, 0xffff_fffe)]
      as [(UInt32, UInt32, UInt32)])
  func theAdvanceIsModular(start: UInt32, end: UInt32, advance: UInt32) {
    #expect(VersionProtocol.advance(from: start, to: end) == advance)
  }

  @Test func aRecordAtRestIsReadAtOnce() {
    let page = ClockPage(bytes: 0..<32)!
    let memory = ScriptedMemory([page])
    #expect(VersionProtocol.snapshot(attempts: 1, word: memory.word) == page)
    #expect(memory.reads == Self.wholeRecord)
  }

  @Test func anOddVersionIsNotReadFurther() {
    let page = ClockPage(version: 4, systemTime: 9)
    let memory = ScriptedMemory([ClockPage(version: 3, systemTime: 8), page, page])
    #expect(VersionProtocol.snapshot(attempts: 2, word: memory.word) == page)
    #expect(memory.reads == [0] + Self.wholeRecord)
  }

  @Test func aRecordWhoseVersionChangedMeanwhileIsReadAgain() {
    let page = ClockPage(version: 6, systemTime: 9)
    let torn = [ClockPage(version: 2), ClockPage(version: 4), page, page]
    let memory = ScriptedMemory(torn)
    #expect(VersionProtocol.snapshot(attempts: 2, word: memory.word) == page)
    #expect(memory.reads == Self.wholeRecord + Self.wholeRecord)
    #expect(VersionProtocol.snapshot(attempts: 1, word: ScriptedMemory(torn).word) == nil)
  }

  @Test func aRecordBeingWrittenAtTheEndIsReadAgain() {
    let page = ClockPage(version: 4, systemTime: 9)
    let memory = ScriptedMemory([ClockPage(version: 2), ClockPage(version: 3), page, page])
    #expect(VersionProtocol.snapshot(attempts: 2, word: memory.word) == page)
    #expect(memory.reads == Self.wholeRecord + Self.wholeRecord)
  }

  @Test func aForeverOddVersionEndsTheAttempts() {
    let memory = ScriptedMemory([ClockPage(version: 5)])
    #expect(VersionProtocol.snapshot(attempts: 100, word: memory.word) == nil)
    #expect(memory.reads == Array(repeating: 0, count: 100))
  }

  @Test func aVersionThatNeverRestsEndsTheAttempts() {
    let memory = ScriptedMemory((0..<50).map { ClockPage(version: $0 * 2) })
    #expect(VersionProtocol.snapshot(attempts: 20, word: memory.word) == nil)
    #expect(memory.reads.count == 20 * 9)
  }

  @Test(arguments: [0, -1, .min])
  func withoutAttemptsNothingIsRead(attempts: Int) {
    let memory = ScriptedMemory([ClockPage()])
    #expect(VersionProtocol.snapshot(attempts: attempts, word: memory.word) == nil)
    #expect(memory.reads.isEmpty)
  }

  @Test func theLastVersionBeforeTheWrapIsAtRest() {
    let page = ClockPage(version: 0xffff_fffe)
    #expect(VersionProtocol.snapshot(attempts: 1, word: ScriptedMemory([page]).word) == page)
  }
}
