/// The scripts that drive a machine; a history names the one that made it.
public enum ScenarioName: String, Hashable, Sendable, Codable, CaseIterable {
  case discovery
  case registration, rewrite, storm, readback, freeze, version
  case setClock = "set-clock"
  case rate
  case oldMSR = "old-msr"
  case oldMSRElsewhere = "old-msr-elsewhere"
  case cpuid24, replug
  case scheduleOffset = "sched-offset"
  case modes, rewriter, schedclock
  case severalVMs = "several-vms"
  case clocksourceTwice = "clocksource-twice"
  case realtimeStep = "realtime-step"
  case clocksourceSwitch = "clocksource-switch"
  case slew, suspend
  case periodicSync = "periodic-sync"
  case pvFeatures = "pv-features"
  case msrFilter = "msr-filter"
  case hostRegisters = "host-registers"
  case align4
  case unbacked
  case scribble
  case rewriteExact = "rewrite-exact"
  case oldMSRTimestamp = "old-msr-timestamp"
  case slots
  case crossPage = "cross-page"
  case dirtyLog = "dirty-log"
  case dirtyRing = "dirty-ring"
  case guestStopped = "guest-stopped"
  case stoppedUnreachable = "stopped-unreachable"
  case tscMatching = "tsc-matching"
  case hotplug
  case newPair = "new-pair"
  case initReset = "init"
  case migration
  case restoreTSC = "restore-tsc"
  case firstTSCWrite = "first-tsc-write"
  case clockBeforeVCPUs = "clock-before-vcpus"
  case restoreOrder = "restore-order"
  case many
  case torn, contend, unentered, running
  case oldMSRStorm = "old-msr-storm"
  case sharedPage = "shared-page"
  case hop
  case readCost = "read-cost"
  case wallClock = "wall-clock"
  case wallMSR = "wall-msr"
  case wallLater = "wall-later"
  case wallRewrite = "wall-rewrite"
  case wallTorn = "wall-torn"
  case clockStart = "clock-start"
  case returnValues = "return-values"
  case getClock = "get-clock"
  case oneInstant = "one-instant"
  case turnOfSecond = "turn-of-second"
  case getClockNoMaster = "get-clock-no-master"
  case setClockExact = "set-clock-exact"
  case setClockFlags = "set-clock-flags"
  case setClockRealtime = "set-clock-realtime"
  case tscOffset = "tsc-offset"
  case tscWrite = "tsc-write"
  case tscAdjust = "tsc-adjust"
  case tscWays = "tsc-ways"
  case tscFrequency = "tsc-frequency"
  case scaledTSC = "scaled-tsc"
  case nested
  case restoreState = "restore-state"
  case postCopy = "post-copy"
  case hyperV = "hyper-v"
  case xen
  case xenHostAddress = "xen-host-address"
  case clockPairing = "clock-pairing"
  case clockPairingWithoutTSC = "clock-pairing-no-tsc"
  case vmmRun = "vmm-run"
  case vmmPause = "vmm-pause"
  case vmmSnapshot = "vmm-snapshot"
  case vmmMigration = "vmm-migration"
  case vmmReset = "vmm-reset"
  case vmmHotplug = "vmm-hotplug"
  case vmmBeside = "vmm-beside"
}

/// One sentence of the ABI, and how to tell from a history whether it holds.
public struct Rule: Sendable {
  /// Upper case, hyphenated by topic; the same in code, output, tests and documents.
  public let id: String
  /// The sentence.
  public let statement: String
  /// The texts of its sources, on one line.
  public let source: String
  /// What is done and read.
  public let method: String
  /// The scenarios that exercise it.
  public let scenarios: [ScenarioName]
  /// Whether every other history is judged too: the rule concerns whatever was observed.
  public let everywhere: Bool
  /// What the rule rests on.
  public let sources: [Source]
  /// What its quantifiers ask for.
  public let coverage: [Coverage]
  /// What it needs of the host.
  public let needs: Set<HostNeed>
  /// Whether the ABI leaves this open: its value is reported, and never fails.
  public let isObservation: Bool
  /// What its quantifiers ask for where a process inside a guest looked; nil where nothing can be told from there.
  public let inside: [Coverage]?
  private let judgement: @Sendable (Timeline) -> Outcome

  /// - Parameters:
  ///   - sources: what the rule rests on.
  ///   - method: what is done and read.
  ///   - everywhere: whether every other history is judged too.
  ///   - coverage: what its quantifiers ask for.
  ///   - needs: what it needs of the host.
  ///   - inside: what its quantifiers ask for where a process inside a guest looked; nil where nothing can be told from there.
  ///   - judge: goes through a history and notes what it finds.
  init(
    _ id: String, _ statement: String, sources: [Source], method: String,
    scenarios: [ScenarioName], everywhere: Bool = false, coverage: [Coverage] = [],
    needs: Set<HostNeed> = [], isObservation: Bool = false, inside: [Coverage]? = nil,
    judge: @escaping @Sendable (Timeline, inout Findings) -> Void
  ) {
    self.id = id
    self.statement = statement
    self.sources = sources
    self.source = sources.map(\.text).joined(separator: "; ")
    self.method = method
    self.scenarios = scenarios
    self.everywhere = everywhere
    self.coverage = coverage
    self.needs = needs
    self.isObservation = isObservation
    self.inside = inside
    judgement = { timeline in
      var findings = Findings()
      judge(timeline, &findings)
      let demands = timeline.isInside ? inside ?? coverage : coverage
      return findings.outcome(covering: demands, in: timeline)
    }
  }

  /// Whether only today's implementation says so: a host that breaks it differs from Linux, and is not unsound.
  public var restsOnImplementation: Bool {
    sources.allSatisfy { $0.kind == .implementation }
  }

  /// Judges one history. A scenario that ended early can prove a rule broken but not that it holds.
  public func judge(_ history: History) -> Outcome {
    judge(Timeline(history))
  }

  /// A rule is asked whether to run a scenario again, and once more in the end: it looks at each history once.
  public func judge(_ timeline: Timeline) -> Outcome {
    timeline.judgements.of(id) { judgeAnew(timeline) }
  }

  private func judgeAnew(_ timeline: Timeline) -> Outcome {
    if let disturbance = timeline.disturbance {
      return .inconclusive(reason: "the host did not stay as it was: \(disturbance)")
    }
    let outcome = judgement(timeline)
    if let failure = timeline.failure, !outcome.isBroken {
      return .inconclusive(reason: "the scenario ended early: \(failure)")
    }
    return outcome
  }

  /// Whether a history of `scenario` has something to say about this rule.
  ///
  /// Where a scenario changes the host, what holds on a steady one is owed only by the rules that expect the change.
  public func concerns(_ scenario: String) -> Bool {
    if scenario == Header.insideScenario { return inside != nil }
    let name = ScenarioName(rawValue: scenario)
    let isOnItsOwn = name.map { $0.changesHost || $0.isOfVMMs } ?? false
    return isExercised(by: scenario) || (everywhere && !isOnItsOwn)
  }

  public func isExercised(by scenario: String) -> Bool {
    scenarios.contains { $0.rawValue == scenario }
      || (scenario == Header.insideScenario && inside != nil)
      || concernsEveryRecord && ScenarioName(rawValue: scenario)?.isOfVMMs ?? false
  }

  /// Judges all histories of a run. Where a scenario does not exercise the rule, only a violation counts.
  public func verdict(on timelines: [Timeline]) -> Verdict {
    var byScenario: [(name: String, outcomes: [Outcome])] = []
    for timeline in timelines where concerns(timeline.history.header.scenario) {
      let name = timeline.history.header.scenario
      let outcome = judge(timeline)
      guard isExercised(by: name) || outcome.isBroken else { continue }
      if let at = byScenario.firstIndex(where: { $0.name == name }) {
        byScenario[at].outcomes.append(outcome)
      } else {
        byScenario.append((name, [outcome]))
      }
    }
    let perScenario = byScenario.map { ($0.name, Outcome.ofAttempts($0.outcomes)) }
    let outcome = Outcome.ofScenarios(perScenario.map(\.1))
    let decisive = perScenario.first { $0.1 == outcome || (outcome.isBroken && $0.1.isBroken) }
    // A deviation of kernels excuses no other clock.
    let host = timelines.first?.history.header.host
    let isInside = timelines.first?.isInside ?? false
    let kernel = host?.clock == nil && !isInside ? host?.kernel : nil
    return Verdict(
      rule: id, outcome: outcome,
      known: isInside
        ? KnownDeviation.ofSomeKernel(rule: id, outcome)
        : KnownDeviation.of(rule: id, kernel: kernel, outcome),
      notOwed: outcome.isBroken ? Owed.later(rule: id, kernel: kernel) : nil,
      differsOnly: outcome.isBroken && restsOnImplementation ? true : nil,
      scenario: decisive?.0 ?? scenarios.first?.rawValue ?? "")
  }
}

extension Rule {
  /// Every rule, in the order of the catalogue.
  public static let all: [Rule] = topics.flatMap(\.rules)

  /// Those that a run on KVM alone judges.
  public static let ofKVM: [Rule] = all.filter { !$0.isOfVMMs }

  public static func named(_ id: String) -> Rule? {
    all.first { $0.id == id }
  }
}
