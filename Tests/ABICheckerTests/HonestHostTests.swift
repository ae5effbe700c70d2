import Testing

@testable import ABIChecker

/// False alarms are the worst defect of a harness: an honest host is never accused, however noisy.
@Suite struct HonestHostTests {
  static func timelines(
    source: SimulatedTime.Source = .tsc, _ noise: (ScenarioName) -> SimulatedTime.Noise
  ) -> [Timeline] {
    ScenarioName.allCases.map {
      Timeline(Script.history(of: $0, source: source, noise: noise($0)))
    }
  }

  /// Made once: to make the histories of all scenarios takes longer than to judge them.
  private static let quiet = timelines { _ in .none }
  private static let quietWithoutTSC = timelines(source: .hpet) { _ in .none }
  private static let slow = timelines { _ in .always(50_000_000) }
  private static let slowWithoutTSC = timelines(source: .hpet) { _ in .always(50_000_000) }

  @Test(arguments: Rule.all.map(\.id))
  func everyRuleHoldsOnAQuietHost(id: String) throws {
    let rule = try #require(Rule.named(id))
    let verdict = rule.verdict(on: Self.quiet)
    #expect(verdict.outcome.holds, "\(verdict)")
    // A deviation that shows always is known of a kernel that does not show it.
    #expect(verdict.rule == id && verdict.known?.always != false)
    // An honest host holds a rule that the kernel of its header always breaks, and is told that it need not.
    #expect(verdict.rule == id && verdict.known?.always ?? true)
  }

  /// Each scenario alone must do for each rule that it exercises.
  @Test(arguments: ScenarioName.allCases)
  func aScenarioHoldsUpTheRulesThatItExercises(scenario: ScenarioName) {
    let timeline = Timeline(Script.history(of: scenario))
    for rule in Rule.all where rule.isExercised(by: scenario.rawValue) {
      #expect(rule.judge(timeline).holds, "\(rule.id): \(rule.judge(timeline))")
    }
  }

  static let needMasterClock: Set = [
    "SYSTIME-REWRITE-STORM", "MONO-VCPU", "SYSTIME-GLOBAL-PAIR", "GETCLOCK-IS-GUEST-VIEW",
    "STABLE-INDEP-CPUID24", "STABLE-OLDMSR-VCPU0-CLEARS", "STABLE-OLDMSR-VCPU1-NOEFFECT",
    "STABLE-NEWMSR-RESTORES", "SCHEDCLOCK-CONSTANT-OFFSET",
    // By section of the catalogue, one a line.
    "STABLE-LOST-CLOCKSOURCE", "STABLE-BACK-ON-TSC", "CLOCKSOURCE-SWITCH-KEEPS-TIME",
    "SETCLOCK-NONTSC", "WALL-VALUE-EXACT",
    "PERIODIC-SYNC",
    "SYSTIME-REWRITE-MASTER-EXACT",
    "STABLE-OLDMSR-HOST-NOEFFECT",
    "STABLE-LOST-OFFSET-MISMATCH", "STABLE-REGAINED-OFFSET-MATCH", "STABLE-LAG",
    "HOTPLUG-STABLE", "HOTPLUG-NO-RESNAP", "RESNAP-BOUNDED", "RESNAP-NO-JUMP",
    "MIG-REALTIME-CONTINUES",
    "MIG-OLDMSR-STATE",
    "MIG-TSC-RELATION",
    "STABLE-UNENTERED",
    "MONO-CROSS-VCPU",
    "VSYSCALL-PAGE0-ON-VCPU1",
    "WALL-REWRITE-STABLE",
    "GETCLOCK-FIELDS",
    "SETCLOCK-EXACT",
    "GETSET-ROUNDTRIP",
    "TSCOFFSET-CONTINUES",
    "TSC-HOSTWRITE-CONTINUES",
    "TSC-HOSTWRITE-CONTINUES-TOGETHER",
    "RESTORE-MASTER-CLOCK", "RESTORE-TSC-APART", "RESTORE-PARKED", "RESTORE-BY-OFFSET",
    "SETCLOCK-REACHES-RUNNING", "STABLE-REACHES-RUNNING", "RUNNING-ONE-PAIR",
    "GETCLOCK-ONE-INSTANT", "SETCLOCK-ONE-INSTANT",
    "SISTERS-KEEP-MASTER-CLOCK", "CLOCKSOURCE-EVERY-VM",
    "HYPERV-PAGE-IS-KVMCLOCK", "HYPERV-FOLLOWS-SETCLOCK", "HYPERV-SEQUENCE",
    "SCALED-GETCLOCK-IS-GUEST-VIEW", "NESTED-TSC-IS-L1",
    "XEN-UNSTABLE-FLAG", "PAIRING-FIELDS", "PAIRING-ONE-INSTANT",
    "PAUSE-CLOCK", "SNAPSHOT-CLOCK", "MIGRATE-CLOCK", "MIGRATE-FAILED-KEEPS-TIME",
    "RESET-KEEPS-TIME", "PLUG-ONE-CLOCK", "PLUG-KEEPS-TIME", "REPLUG-KEEPS-TIME",
    "VMM-CLOCK-RUNS", "VMM-REWRITE-KEEPS-TIME",
    "VMM-NEVER-BACK", "VMM-ONE-CLOCK", "VMM-TSC-ALIKE", "VMM-KEEPS-STABLE",
  ]

  @Test(arguments: Rule.all.map(\.id))
  func withoutTheMasterClockARuleHoldsOrIsNotTested(id: String) throws {
    let rule = try #require(Rule.named(id))
    let outcome = rule.verdict(on: Self.quietWithoutTSC).outcome
    #expect(
      Self.needMasterClock.contains(id) ? outcome.isNotTested : outcome.holds, "\(id): \(outcome)")
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func noPreemptionBreaksARule(source: SimulatedTime.Source) {
    var seeds = SeededGenerator()
    for _ in 0..<6 {
      let seed = seeds.next()
      let timelines = Self.timelines(source: source) {
        .random(SeededGenerator(seed: seed &+ UInt64($0.rawValue.utf8.count)))
      }
      for rule in Rule.all {
        let outcome = rule.verdict(on: timelines).outcome
        // Linux itself breaks it where noise makes a wait long enough.
        if rule.id == "RESNAP-NO-JUMP" { continue }
        #expect(!outcome.isBroken, "\(rule.id), seed \(seed): \(outcome)")
      }
    }
  }

  static let judgeWidths: Set = [
    "SYSTIME-REWRITE-KEEPS-TIME", "SYSTIME-REENABLE-KEEPS-TIME", "CLOCK-BRACKET",
    "SETCLOCK-SETS-ALL-VCPUS", "OLDMSR-KEEPS-TIME", "REPLUG-VCPU0-KEEPS-TIME",
    "SCHEDOFF-NO-UNDERFLOW", "MODE-INDEPENDENT", "RATE-RAW",
    "HOTPLUG-KEEPS-TIME",
    "INIT-REREGISTER-KEEPS-TIME",
    "MIG-PLAIN-CONTINUES",
    "MANY-VCPUS-SETCLOCK",
    "WALL-VALUE", "WALL-FOLLOWS-SETCLOCK",
    "TSCADJ-GUESTWRITE-CONTINUES",
    "TSCADJ-HOSTWRITE-NOMOVE",
    "TSC-GUESTWRITE-CONTINUES",
    "TSC-HOSTWRITE-CONTINUES-NONMASTER",
  ]

  /// 50 ms between any two steps: whatever compares two moments can say nothing, and says so.
  @Test(arguments: [SimulatedTime.Source.tsc, .hpet], judgeWidths.sorted())
  func aBracketThatIsTooWideProvesNothing(source: SimulatedTime.Source, id: String) throws {
    let rule = try #require(Rule.named(id))
    let outcome = rule.verdict(on: source == .tsc ? Self.slow : Self.slowWithoutTSC).outcome
    #expect(outcome.isInconclusive, "\(id): \(outcome)")
  }
}
