extension ScenarioName {
  /// Does little but wait: it runs beside the others, and a quick run leaves it out.
  public var waits: Bool {
    switch self {
    case .rate, .turnOfSecond: true
    default: false
    }
  }

  /// What it sees depends on chance, or on how long it lasts: worth doing again and again.
  public var canDriftOrRace: Bool {
    switch self {
    case .rate, .contend, .torn, .storm, .oldMSRStorm, .sharedPage, .hop, .rewriter, .schedclock,
      .newPair, .getClock, .getClockNoMaster, .readCost, .wallTorn,
      .running:
      true
    default: false
    }
  }

  /// Changes the host that it runs on, and puts back what it found: only for hosts that nobody else needs.
  public var changesHost: Bool {
    switch self {
    case .clocksourceSwitch, .clocksourceTwice, .realtimeStep, .slew, .suspend,
      .clockPairingWithoutTSC:
      true
    default: false
    }
  }

  /// Is about what KVM says of itself, does with the TSC, or does when the host changes: nothing that another clock on
  /// the same KVM could do.
  public var concernsKVM: Bool {
    switch self {
    case .discovery, .msrFilter, .tscFrequency, .clocksourceSwitch, .clocksourceTwice,
      .realtimeStep, .slew, .suspend, .periodicSync,
      .running, .oneInstant, .turnOfSecond, .hyperV, .xen, .xenHostAddress, .clockPairing,
      .clockPairingWithoutTSC,
      .postCopy, .nested:
      true
    default: false
    }
  }

  /// Takes minutes: runs only where they are given.
  public var isLong: Bool { self == .periodicSync }
}

extension ScenarioName {
  /// Those in which a VMM makes the machine: `kvmclock vmm` runs them.
  public static let ofVMMs: [ScenarioName] = [
    .vmmRun, .vmmPause, .vmmSnapshot, .vmmMigration, .vmmReset, .vmmHotplug,
    .vmmBeside,
  ]

  public var isOfVMMs: Bool { Self.ofVMMs.contains(self) }
}

extension Rule {
  /// Whether a VMM is tested, and not KVM alone.
  public var isOfVMMs: Bool { scenarios.allSatisfy(\.isOfVMMs) }

  /// Whether it judges any record by itself, whoever made the machine.
  public var concernsEveryRecord: Bool {
    ["PAGE-PAD-ZERO", "FLAGS-RESERVED-ZERO", "VERSION-EVEN"].contains(id)
  }

  /// Whether it can't be tested without changing the host.
  public var needsHostChange: Bool { scenarios.allSatisfy(\.changesHost) }
}
