import PVClock
import Testing

@testable import ABIChecker

/// The rules about VMMs, on histories made by hand: each holds, is broken in each way that there is, and says so if it saw too little.
@Suite struct VMMRulesTests {
  /// A guest under a VMM, and what happens to it.
  func guest(
    _ scenario: ScenarioName = .vmmRun, source: SimulatedTime.Source = .tsc,
    _ work: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(scenario, source: source)
    host.startUnderVMM()
    work(&host)
    return host.history
  }

  static let second: Int64 = 1_000_000_000

  // MARK: At any time

  @Test func aClockThatGoesBack() throws {
    let id = "VMM-NEVER-BACK"
    try expectHolds(id, guest())
    let back = guest { host in
      host.amendAnswer(of: 1) { ($0.backwards, $0.worst, $0.worstBefore) = (2, -5000, 7_000_000) }
    }
    try expectBroken(id, back, "vcpu1", "2 below, the worst by 5000 ns", "7000000 ns at TSC")
    // Without bit 0 nothing is promised.
    try expectNotTested(id, guest(source: .hpet), "stretches of readings")
    try expectNotTested(id, guest { $0.events.removeLast() }, "1 stretches of readings")
  }

  @Test func aTSCThatGoesBack() throws {
    let id = "VMM-TSC-NEVER-BACK"
    try expectHolds(id, guest())
    try expectBroken(
      id, guest { $0.amendAnswer(of: 0) { $0.tscBackwards = 3 } }, "3 below", "vcpu0")
    try expectNotTested(id, guest { $0.events.removeLast() }, "stretches of readings")
  }

  @Test(arguments: [(1_000_000, "too high"), (-1_000_000, "too low")])
  func twoClocks(by nanoseconds: Int64, words: String) throws {
    let id = "VMM-ONE-CLOCK"
    func apart(_ nanoseconds: Int64) -> History {
      guest { host in
        host.answer()
        host.amendPages(of: 1) { $0.systemTime &+= UInt64(bitPattern: nanoseconds) }
      }
    }
    try expectHolds(id, apart(0))
    try expectBroken(id, apart(nanoseconds), "vcpu1's clock less vcpu0's", words)
    try expectNotTested(id, guest { $0.answer([0]) }, "answers of other vCPUs")
  }

  @Test func twoTSCs() throws {
    let id = "VMM-TSC-ALIKE"
    func apart(_ change: (inout SampleResult) -> Void) -> History {
      guest { host in
        host.answer()
        host.amendAnswer(of: 1, change)
      }
    }
    try expectHolds(id, apart { _ in })
    try expectBroken(id, apart { $0.last.tsc = $0.seen + 1000 }, "1000 cycles too high")
    try expectBroken(id, apart { $0.last.tsc = $0.asked - 500 }, "500 cycles too low")
    try expectNotTested(id, guest { $0.answer([0]) }, "answers of other vCPUs")
  }

  @Test func anotherRate() throws {
    let id = "VMM-KEEPS-RATE"
    func after(_ change: (inout ClockPage) -> Void) -> History {
      guest { host in
        host.answer()
        host.amendPages(of: 1, change)
      }
    }
    try expectHolds(id, after { _ in })
    try expectBroken(id, after { $0.tscToSystemMultiplier += 1 }, "vcpu1's multiplier", "as before")
    try expectBroken(id, after { $0.tscShift += 1 }, "vcpu1's multiplier")
    // One that was seen only between two questions.
    try expectBroken(
      id,
      guest { host in
        host.answer()
        host.amendAnswer(of: 0) { $0.stretches[0].page.tscToSystemMultiplier += 1 }
      }, "vcpu0's multiplier")
    try expectNotTested(id, guest(), "records before and after")
  }

  @Test func bit0ThatIsLost() throws {
    let id = "VMM-KEEPS-STABLE"
    func lost(_ work: (inout HistoryBuilder) -> Void) -> History {
      guest { host in
        host.answer()
        work(&host)
        host.answer()
        host.amendPages(of: 1) { $0.flags.remove(.tscStable) }
      }
    }
    try expectHolds(id, guest { $0.answer() })
    try expectBroken(id, lost { _ in }, "vcpu1", "it was before")
    try expectBroken(id, lost { $0.vmm(.restore, other: 1) }, "it was before")
    // The guest took it away itself, by the old MSR.
    let written = lost { $0.run(0, .write(MSR.systemTimeOld, $0.vcpus[0]!.address | 1)) }
    #expect(try !judge(id, written).isBroken)
    try expectNotTested(id, guest(), "records before and after")
    try expectNotTested(id, guest(source: .hpet) { $0.answer() }, "records before and after")
  }

  @Test func aGuestThatIsToldOfNoStop() throws {
    let id = "VMM-STOPPED-ONLY-THEN"
    try expectHolds(id, guest { $0.answer() })
    try expectBroken(id, guest { $0.answer(told: true) }, "nobody stopped it", "vcpu0", "vcpu1")
    let once = guest { host in
      host.answer()
      host.amendAnswer(of: 1) { $0.stretches[0].page.flags.insert(.guestStopped) }
    }
    try expectBroken(id, once, "vcpu1")
    try expectBroken(
      id,
      guest { host in
        host.vmm(.reset)
        host.answer(told: true)
      }, "nobody stopped it")
    let stopped = guest { host in
      host.stopped { $0.wait(milliseconds: 300) }
      host.answer(told: true)
    }
    try expectNotTested(id, stopped, "records before and after")
  }

  @Test(arguments: [2 * second, -second / 10])
  func aClockThatIsSetWhileNothingIsAskedFor(step: Int64) throws {
    let id = "VMM-CLOCK-RUNS"
    let words = step > 0 ? "too high" : "too low"
    func steps(_ work: (inout HistoryBuilder) -> Void) -> History {
      guest { host in
        host.wait(milliseconds: 20)
        host.answer()
        work(&host)
        host.stepClock(by: step)
        host.wait(milliseconds: 20)
        host.answer()
      }
    }
    try expectHolds(id, guest { $0.answer() })
    try expectBroken(id, steps { _ in }, words)
    // A guest that runs is resumed.
    try expectBroken(id, steps { $0.vmm(.resume) }, words)
    try expectBroken(
      id, steps { $0.vmm(.resume, failure: .refused(reason: "it runs")) }, words)
    #expect(
      try !judge(
        id,
        steps { host in
          host.vmm(.pause)
          host.vmm(.resume)
        }
      ).isBroken)
    // Another guest is paused and resumed.
    try expectHolds(id, Script.vmmBeside(HistoryBuilder(.vmmBeside)))
    try expectBroken(
      id, Script.vmmBeside(HistoryBuilder(.vmmBeside)) { $0.stepClock(by: step) }, words)
    try expectNotTested(id, guest(), "advances")
  }

  @Test func aClockThatAWriteOfTheGuestSets() throws {
    let id = "VMM-REWRITE-KEEPS-TIME"
    func writes(_ msrs: [UInt32], step: Int64 = 0) -> History {
      guest { host in
        for msr in msrs {
          for id in [0, 1] { host.run(id, .write(msr, host.vcpus[id]!.address | 1)) }
          host.stepClock(by: step)
          host.answer()
        }
      }
    }
    let both = [MSR.systemTime, MSR.systemTimeOld, MSR.systemTime]
    try expectHolds(id, writes(both))
    try expectBroken(id, writes(both, step: Self.second), "too high")
    try expectBroken(id, writes([MSR.systemTime], step: -Self.second / 100), "too low")
    try expectNotTested(id, writes([MSR.systemTime, MSR.systemTime]), "MSRs written")
  }

  @Test func aRecordThatAResetLeavesEnabled() throws {
    let id = "VMM-STARTS-DISABLED"
    func reset(_ found: UInt64?) -> History {
      guest(.vmmReset) { host in
        host.vmm(.reset)
        if let found { host.vcpus[1]?.msr = found }
        host.startAgain(1)
        host.answer()
      }
    }
    try expectHolds(id, reset(0))
    // A firmware's own.
    try expectHolds(id, reset(0xf000_0001))
    try expectBroken(id, reset(nil), "vcpu1 at its start is not 0x11001", "0x11001")
    try expectNotTested(id, guest(.vmmReset) { $0.vmm(.reset) }, "vCPUs that started again")
    // Nothing was enabled, and nothing was reset.
    let disabled = guest(.vmmReset) { host in
      host.run(1, .write(MSR.systemTime, 0))
      host.vmm(.reset)
      host.startAgain(1)
    }
    try expectNotTested(id, disabled, "vCPUs that started again")
    let refused = guest(.vmmReset) { host in
      host.vmm(.reset, failure: .refused(reason: "not now"))
      host.startAgain(1)
    }
    try expectNotTested(id, refused, "vCPUs that started again")
  }

  @Test func aVMMThatEndsOrSaysNothing() throws {
    let id = "VMM-SURVIVES"
    func asked(_ failure: VMMFailure?) -> History {
      guest(.vmmReset) { $0.vmm(.reset, failure: failure) }
    }
    try expectHolds(id, asked(nil))
    try expectHolds(id, asked(.refused(reason: "not now")))
    try expectBroken(id, asked(.ended(how: "signal 9")), "reset: done or refused", "signal 9")
    try expectBroken(id, asked(.silent(about: "no answer in 60 s")), "no answer in 60 s")
    try expectNotTested(id, guest(.vmmReset), "things asked for")
  }
}
