internal import ABIChecker

/// A short script that drives machines. It judges nothing; it records.
struct Scenario: Sendable {
  let name: ScenarioName
  let script: @Sendable (Stage) throws -> Void

  /// Every scenario, by its name in the history and in the rules.
  static func named(_ name: ScenarioName) -> Scenario {
    let script: @Sendable (Stage) throws -> Void =
      switch name {
      case .vmmRun, .vmmPause, .vmmSnapshot, .vmmMigration, .vmmReset, .vmmHotplug,
        .vmmBeside:
        { _ in preconditionFailure("\(name) is run by VMMRunner") }
      case .discovery: discovery
      case .registration: registration
      case .rewrite: rewrite
      case .storm: storm
      case .readback: readback
      case .freeze: freeze
      case .version: version
      case .setClock: setClock
      case .rate: rate
      case .oldMSR: oldMSR
      case .oldMSRElsewhere: oldMSRElsewhere
      case .cpuid24: cpuid24
      case .replug: replug
      case .scheduleOffset: scheduleOffset
      case .modes: modes
      case .rewriter: rewriter
      case .schedclock: schedclock
      case .clocksourceSwitch: clocksourceSwitch
      case .slew: slew
      case .severalVMs: severalVMs
      case .clocksourceTwice: clocksourceTwice
      case .realtimeStep: realtimeStep
      case .suspend: suspend
      case .periodicSync: periodicSync
      case .pvFeatures: pvFeatures
      case .msrFilter: msrFilter
      case .hostRegisters: hostRegisters
      case .align4: align4
      case .unbacked: unbacked
      case .scribble: scribble
      case .rewriteExact: rewriteExact
      case .oldMSRTimestamp: oldMSRTimestamp
      case .slots: slots
      case .crossPage: crossPage
      case .dirtyLog: dirtyLog
      case .dirtyRing: dirtyRing
      case .guestStopped: guestStopped
      case .stoppedUnreachable: stoppedUnreachable
      case .tscMatching: tscMatching
      case .hotplug: hotplug
      case .newPair: newPair
      case .initReset: initReset
      case .migration: migration
      case .restoreTSC: restoreTSC
      case .firstTSCWrite: firstTSCWrite
      case .clockBeforeVCPUs: clockBeforeVCPUs
      case .restoreOrder: restoreOrder
      case .many: many
      case .torn: torn
      case .contend: contend
      case .unentered: unentered
      case .running: running
      case .oldMSRStorm: oldMSRStorm
      case .sharedPage: sharedPage
      case .hop: hop
      case .readCost: readCost
      case .wallClock: wallClock
      case .wallMSR: wallMSR
      case .wallLater: wallLater
      case .wallRewrite: wallRewrite
      case .wallTorn: wallTorn
      case .clockStart: clockStart
      case .returnValues: returnValues
      case .getClock: getClock
      case .oneInstant: oneInstant
      case .turnOfSecond: turnOfSecond
      case .getClockNoMaster: getClockNoMaster
      case .setClockExact: setClockExact
      case .setClockFlags: setClockFlags
      case .setClockRealtime: setClockRealtime
      case .tscOffset: tscOffset
      case .tscWrite: tscWrite
      case .tscAdjust: tscAdjust
      case .tscWays: tscWays
      case .tscFrequency: tscFrequency
      case .scaledTSC: scaledTSC
      case .restoreState: restoreState
      case .postCopy: postCopy
      case .hyperV: hyperV
      case .xen: xen
      case .xenHostAddress: xenHostAddress
      case .nested: nested
      case .clockPairing: clockPairing
      case .clockPairingWithoutTSC: clockPairingWithoutTSC
      }
    return Scenario(name: name, script: script)
  }
}
