import ABIChecker
import PVClock
import Testing

@testable import Inside

/// Every rule that is judged inside a guest, on a record made by hand: it holds, and it can fail.
@Suite(.serialized) struct RuleTests {
  static let isTSC = GuestFacts.current().clocksource == "tsc"

  private func isBroken(_ rule: String, _ history: History) -> Bool {
    Rule.named(rule)?.judge(history).isBroken ?? false
  }

  private func outcome(_ rule: String, _ history: History) -> Outcome? {
    Rule.named(rule)?.judge(history)
  }

  @Test func everyRuleHoldsOnAnHonestRecordThatIsUpdated() {
    let record = MadeRecord()
    let history = record.keeping(every: 15) {
      $0.update()
    } while: {
      record.history(milliseconds: 1500, leafKHz: MadeRecord.kHz)
    }
    for rule in Rule.all where rule.inside != nil {
      let outcome = rule.judge(history)
      #expect(!outcome.isBroken, "\(rule.id): \(outcome)")
    }
    for rule in [
      "CPUID-FEATURES", "PAGE-PAD-ZERO", "FLAGS-RESERVED-ZERO", "VERSION-EVEN", "VERSION-MONO",
      "VERSION-NO-TORN", "MULSHIFT-EXACT", "MULSHIFT-TSCKHZ", "MONO-VCPU", "RESNAP-BOUNDED",
      "RESNAP-NO-JUMP",
    ] {
      guard case .holds = outcome(rule, history) else {
        Issue.record("\(rule): \(String(describing: outcome(rule, history)))")
        continue
      }
    }
    guard case .observed = outcome("READ-COST", history) else {
      Issue.record("no cost")
      return
    }
  }

  @Test(.enabled(if: isTSC, "CLOCK_MONOTONIC_RAW does not count the TSC here"))
  func rateHoldsOnOnePair() {
    let history = MadeRecord().history()
    guard case .holds = outcome("RATE-RAW", history) else {
      Issue.record("\(String(describing: outcome("RATE-RAW", history)))")
      return
    }
  }

  @Test(.enabled(if: isTSC, "CLOCK_MONOTONIC_RAW does not count the TSC here"))
  func rateIsBrokenByMoreThanKVMTolerates() {
    var scale = TSCScale(tscKHz: MadeRecord.kHz)
    scale.multiplier += scale.multiplier / 2000
    let history = MadeRecord(scale: scale).history()
    let isBroken = isBroken("RATE-RAW", history)
    #expect(isBroken, "\(String(describing: outcome("RATE-RAW", history)))")
  }

  /// KVM runs a guest that comes from a host of nearly the same frequency without scaling its TSC.
  @Test(.enabled(if: isTSC, "CLOCK_MONOTONIC_RAW does not count the TSC here"))
  func anotherHostsFrequencyIsNotJudged() {
    var scale = TSCScale(tscKHz: MadeRecord.kHz)
    scale.multiplier += scale.multiplier / 50_000
    let history = MadeRecord(scale: scale).history()
    guard case .notTested(let reason) = outcome("RATE-RAW", history) else {
      Issue.record("\(String(describing: outcome("RATE-RAW", history)))")
      return
    }
    #expect(reason.contains("250 ppm"))
  }

  @Test func rateIsNotJudgedByTheClockItself() {
    let history = MadeRecord().history(clocksource: "kvm-clock")
    guard case .notTested(let reason) = outcome("RATE-RAW", history) else {
      Issue.record("\(String(describing: outcome("RATE-RAW", history)))")
      return
    }
    #expect(reason.contains("CLOCK_MONOTONIC_RAW is the clock under test"))
    #expect(!isBroken("MONO-VCPU", history))
  }

  /// What a thread writes into the record, and the rules that it breaks.
  struct Fault: CustomTestStringConvertible, Sendable {
    var name: String
    var rules: [String]
    var clocksource = "tsc"
    var milliseconds: UInt64 = 5
    var write: @Sendable (MadeRecord) -> Void

    var testDescription: String { name }
  }

  @Test(arguments: [
    Fault(name: "padding", rules: ["PAGE-PAD-ZERO"]) { $0.update { $0.pad = 1 } },
    Fault(name: "bit 2 of the flags", rules: ["FLAGS-RESERVED-ZERO"]) {
      $0.update { $0.flags.insert(.countsFromZero) }
    },
    Fault(name: "a version left odd", rules: ["VERSION-EVEN"]) { $0.scribble { $0.version |= 1 } },
    Fault(name: "a version that goes back", rules: ["VERSION-MONO"]) {
      $0.update { $0.version &-= 4 }
    },
    Fault(name: "an update under the same version", rules: ["VERSION-NO-TORN"]) {
      $0.scribble { $0.systemTime += 1 }
    },
    Fault(name: "a clock that steps back", rules: ["MONO-VCPU", "RESNAP-BOUNDED"]) {
      $0.update { $0.systemTime -= 2_000_000 }
    },
    Fault(
      name: "a clock that steps back, kvm-clock the clocksource", rules: ["MONO-VCPU"],
      clocksource: "kvm-clock"
    ) { $0.update { $0.systemTime -= 2_000_000 } },
    Fault(
      name: "a clock that steps back in a race", rules: ["VSYSCALL-PAGE0-ON-VCPU1"], milliseconds: 1
    ) { $0.update { $0.systemTime -= 500_000 } },
    Fault(name: "a clock that jumps on", rules: ["RESNAP-BOUNDED", "RESNAP-NO-JUMP"]) {
      $0.update { $0.systemTime += 1_000_000 }
    },
    Fault(name: "new pairs that step by 10 ns", rules: ["RESNAP-NO-JUMP"]) {
      $0.update { $0.systemTime += 10 }
    },
    Fault(name: "a multiplier of no frequency", rules: ["MULSHIFT-EXACT"]) {
      $0.update { $0.tscToSystemMultiplier ^= 64 }
    },
  ])
  func rulesAreBroken(by fault: Fault) {
    let record = MadeRecord()
    let history = record.keeping(every: fault.milliseconds, fault.write) {
      record.history(clocksource: fault.clocksource)
    }
    for rule in fault.rules where usableCPUs().count > 1 || rule != "VSYSCALL-PAGE0-ON-VCPU1" {
      let isBroken = isBroken(rule, history)
      #expect(isBroken, "\(rule): \(String(describing: outcome(rule, history)))")
    }
  }

  @Test func aFrequencyThatTheLeafDoesNotNameBreaksBothRules() {
    let record = MadeRecord(scale: TSCScale(tscKHz: MadeRecord.kHz + 100))
    let history = record.history(leafKHz: MadeRecord.kHz)
    #expect(isBroken("MULSHIFT-EXACT", history))
    #expect(isBroken("MULSHIFT-TSCKHZ", history))
  }

  @Test(.enabled(if: usableCPUs().count > 1, "one CPU"))
  func cpusThatAreToldDifferentThingsBreakTheirRule() {
    let last = usableCPUs().last!
    let history = MadeRecord().history { cpu, leaf in
      let told = MadeRecord.leaves(cpu, leaf)
      return cpu == last && leaf & 0xff == 1 ? CPUIDLeaf(eax: told.eax & ~(1 << 24)) : told
    }
    #expect(isBroken("CPUID-FEATURES", history))
  }

  @Test func aBitThatTheVMMHidesIsNotTested() {
    let history = MadeRecord().history { cpu, leaf in
      let told = MadeRecord.leaves(cpu, leaf)
      return leaf & 0xff == 1 ? CPUIDLeaf(eax: told.eax & ~1) : told
    }
    #expect(!isBroken("CPUID-FEATURES", history))
  }

  /// A VMM may set the clock of a guest that it stopped, if it says so.
  @Test func aStopThatTheHostAnnouncesBreaksNothing() {
    let record = MadeRecord()
    let history = record.keeping(every: 30) {
      $0.update {
        $0.systemTime += 50_000_000
        $0.flags.insert(.guestStopped)
      }
    } while: {
      record.history()
    }
    for rule in Rule.all where rule.inside != nil {
      #expect(!isBroken(rule.id, history), "\(rule.id)")
    }
    #expect(InsideFigures(Timeline(history)).stops > 0)
  }

  @Test func historiesShowOnlyRulesThatAreJudgedInside() {
    let timeline = Timeline(MadeRecord().history(milliseconds: 100))
    for rule in Rule.all where rule.inside == nil {
      #expect(!rule.concerns(Header.insideScenario))
      #expect(!rule.verdict(on: [timeline]).outcome.isBroken)
    }
  }
}
