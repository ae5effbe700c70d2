package import ABIChecker

/// What the toy VMM can do wrong: each was seen in a VMM that people use, or is one step from it.
package enum ToyFault: String, CaseIterable, Sendable {
  case clockNotSet = "clock-not-set"
  case clockCountsGap = "clock-counts-gap"
  case clockSetTwice = "clock-set-twice"
  case vcpusRunFirst = "vcpus-run-first"
  case recordsLost = "records-lost"
  case recordLostOnOneVCPU = "record-lost-on-one-vcpu"
  case restoreUntold = "restore-untold"
  case toldBeforeSave = "told-before-save"
  case tscsApart = "tscs-apart"
  case tscGoesBack = "tsc-goes-back"
  case pauseUntold = "pause-untold"
  case toldOnOneVCPU = "told-on-one-vcpu"
  case pauseNowAndThen = "pause-now-and-then"
  case pauseHalf = "pause-half"
  case pauseLeaps = "pause-leaps"
  case migrationLeaps = "migration-leaps"
  case migrationGoesBack = "migration-goes-back"
  case failedMigrationLeaps = "failed-migration-leaps"
  case resetRestartsClock = "reset-restarts-clock"
  case plugRestartsClock = "plug-restarts-clock"
  case replugRestartsClock = "replug-restarts-clock"
  case pluggedRecordForgotten = "plugged-record-forgotten"
  case endsAtReplug = "ends-at-replug"
  case rewriteRestartsClock = "rewrite-restarts-clock"
  case clockSetWhileIdle = "clock-set-while-idle"
  case toldWhileRunning = "told-while-running"
  case clockSavedEarly = "clock-saved-early"
  case clockSavedLate = "clock-saved-late"
  case firstSaveRestored = "first-save-restored"
  case secondRestoreLate = "second-restore-late"
  case runsAfterRestore = "runs-after-restore"
  case vcpuLeftRunning = "vcpu-left-running"
  case secondPauseSaves = "second-pause-saves"
  case resumeSetsClock = "resume-sets-clock"
  case resumeSetsOthers = "resume-sets-others"
  case migrationClockNotSet = "migration-clock-not-set"
  case migrationCountsTwice = "migration-counts-twice"
  case resetKeepsRecord = "reset-keeps-record"
  case pluggedTSCApart = "plugged-tsc-apart"
  case frequencyLost = "frequency-lost"
  case frequencyOnOneVCPU = "frequency-on-one-vcpu"

  /// What is wrong.
  package var description: String {
    switch self {
    case .clockNotSet: "a restore without KVM_SET_CLOCK"
    case .clockCountsGap: "a restored clock that counts the gap, where it is said to stand still"
    case .clockSetTwice:
      "KVM_SET_CLOCK with the saved value again, after 20 ms in which the vCPUs ran"
    case .vcpusRunFirst: "vCPUs that run for 20 ms before KVM_SET_CLOCK"
    case .recordsLost: "MSR_KVM_SYSTEM_TIME is not restored"
    case .recordLostOnOneVCPU: "MSR_KVM_SYSTEM_TIME is restored on vCPU 0 alone"
    case .restoreUntold: "no KVM_KVMCLOCK_CTRL after a restore"
    case .toldBeforeSave: "KVM_KVMCLOCK_CTRL before the save, and not after the restore"
    case .tscsApart: "each vCPU's TSC is restored 5e9 cycles later than the one before"
    case .tscGoesBack: "IA32_TSC is restored as 1"
    case .pauseUntold:
      "no KVM_KVMCLOCK_CTRL after a pause, as kvmtool's, which goes to the wrong descriptor"
    case .toldOnOneVCPU: "KVM_KVMCLOCK_CTRL on vCPU 0 alone"
    case .pauseNowAndThen: "every other pause is counted"
    case .pauseHalf: "half of a pause is counted"
    case .pauseLeaps: "the clock gains 1 s in a pause"
    case .migrationLeaps: "the clock gains 10 s in a migration"
    case .migrationGoesBack: "the clock loses 50 ms in a migration"
    case .failedMigrationLeaps: "the clock gains 5 s in a migration that fails"
    case .resetRestartsClock: "a reset sets the clock to 0"
    case .plugRestartsClock: "a plug sets the clock to 0"
    case .replugRestartsClock: "a second plug sets the clock to 0"
    case .pluggedRecordForgotten: "a plugged vCPU's record is given up, and the clock set"
    case .endsAtReplug: "the VMM ends at the second plug, as QEMU on kvm_pvm"
    case .rewriteRestartsClock:
      "the clock is set to 0 when the guest writes the MSR, as by Linux 4.2"
    case .clockSetWhileIdle: "the clock gains 2 s while nothing is asked for"
    case .toldWhileRunning: "KVM_KVMCLOCK_CTRL without a stop"
    case .clockSavedEarly: "KVM_GET_CLOCK 20 ms before the vCPUs are stopped"
    case .clockSavedLate:
      "a pause stands still, but a save takes KVM_GET_CLOCK when it is made, not at the pause"
    case .firstSaveRestored: "each restore sets the clock that the first save took"
    case .secondRestoreLate:
      "a second restore of one file sets the clock later by the time since the first one"
    case .runsAfterRestore:
      "a pause stands still, but a restored clock runs on before the guest is resumed"
    case .vcpuLeftRunning: "a pause that stops vCPU 0 alone"
    case .secondPauseSaves: "a pause of a paused machine takes the clock anew"
    case .resumeSetsClock:
      "a resume sets the clock of the last pause, also where the machine was not paused"
    case .resumeSetsOthers: "a resume sets the clock of every machine"
    case .migrationClockNotSet: "a migration without KVM_SET_CLOCK"
    case .migrationCountsTwice: "the pause on the way of a migration is counted twice"
    case .resetKeepsRecord: "a reset leaves MSR_KVM_SYSTEM_TIME_NEW as the guest wrote it"
    case .pluggedTSCApart: "a plugged vCPU's TSC is set to 5e9 cycles more than vCPU 0's"
    case .frequencyLost: "KVM_SET_TSC_KHZ with 1.5 times the frequency, at a restore"
    case .frequencyOnOneVCPU:
      "the same on vCPU 1 alone: on a host without TSC scaling its TSC is made to leap"
    }
  }

  /// The rules that must break.
  package var breaks: [String] {
    switch self {
    case .clockNotSet, .clockCountsGap, .recordsLost: ["SNAPSHOT-CLOCK"]
    case .clockSetTwice, .vcpusRunFirst: ["VMM-NEVER-BACK"]
    case .recordLostOnOneVCPU: ["VMM-ONE-CLOCK"]
    case .restoreUntold, .toldBeforeSave: ["SNAPSHOT-TELLS-GUEST"]
    case .tscsApart: ["VMM-KEEPS-STABLE"]
    case .tscGoesBack: ["VMM-TSC-NEVER-BACK"]
    case .pauseUntold, .toldOnOneVCPU: ["PAUSE-TELLS-GUEST"]
    case .pauseNowAndThen, .pauseHalf, .pauseLeaps: ["PAUSE-CLOCK"]
    case .migrationLeaps: ["MIGRATE-CLOCK"]
    case .migrationGoesBack: ["MIGRATE-CLOCK", "VMM-NEVER-BACK"]
    case .failedMigrationLeaps: ["MIGRATE-FAILED-KEEPS-TIME"]
    case .resetRestartsClock: ["RESET-KEEPS-TIME"]
    case .plugRestartsClock: ["PLUG-KEEPS-TIME", "VMM-NEVER-BACK"]
    case .replugRestartsClock: ["REPLUG-KEEPS-TIME"]
    case .pluggedRecordForgotten: ["PLUG-ONE-CLOCK"]
    case .endsAtReplug: ["VMM-SURVIVES"]
    case .rewriteRestartsClock: ["VMM-REWRITE-KEEPS-TIME"]
    case .clockSetWhileIdle: ["VMM-CLOCK-RUNS"]
    case .toldWhileRunning: ["VMM-STOPPED-ONLY-THEN"]
    case .firstSaveRestored: ["SNAPSHOT-CLOCK", "VMM-NEVER-BACK"]
    case .clockSavedLate, .secondRestoreLate, .runsAfterRestore: ["SNAPSHOT-CLOCK"]
    case .pluggedTSCApart: ["VMM-KEEPS-STABLE"]
    case .clockSavedEarly, .vcpuLeftRunning: ["VMM-NEVER-BACK"]
    case .secondPauseSaves: ["PAUSE-CLOCK"]
    case .resumeSetsClock, .resumeSetsOthers: ["VMM-CLOCK-RUNS"]
    case .migrationClockNotSet: ["MIGRATE-CLOCK", "VMM-NEVER-BACK"]
    case .migrationCountsTwice: ["MIGRATE-CLOCK"]
    case .resetKeepsRecord: ["VMM-STARTS-DISABLED"]
    case .frequencyLost: ["VMM-KEEPS-RATE"]
    case .frequencyOnOneVCPU: ["VMM-TSC-ALIKE"]
    }
  }

  /// Whether the guest's TSC has to be one that the host can move, or let run at another rate.
  package var needsTSCWrites: Bool {
    [.tscsApart, .tscGoesBack, .pluggedTSCApart, .frequencyLost, .frequencyOnOneVCPU].contains(self)
  }

  /// The script that shows it.
  package var scenario: ScenarioName {
    switch self {
    case .pauseUntold, .toldOnOneVCPU, .pauseNowAndThen, .pauseHalf, .pauseLeaps, .toldWhileRunning,
      .vcpuLeftRunning, .secondPauseSaves, .resumeSetsClock:
      .vmmPause
    case .migrationLeaps, .migrationGoesBack, .failedMigrationLeaps, .migrationClockNotSet,
      .migrationCountsTwice:
      .vmmMigration
    case .resetRestartsClock, .resetKeepsRecord: .vmmReset
    case .plugRestartsClock, .replugRestartsClock, .pluggedRecordForgotten, .endsAtReplug,
      .pluggedTSCApart:
      .vmmHotplug
    case .rewriteRestartsClock, .clockSetWhileIdle: .vmmRun
    case .resumeSetsOthers: .vmmBeside
    default: .vmmSnapshot
    }
  }
}
