import CKVM
import Glibc
import KVM
import Synchronization
import Testing

/// Tests on the host's own KVM, one at a time.
@Suite(.serialized, .enabled(if: Host.runsLiveTests, Host.reason))
struct LiveKVMTests {}

/// What the live tests need to know of the host before they run.
enum Host {
  /// Why KVM cannot be used; `nil` where it can.
  static let obstacle: String? = {
    do throws(KVMError) {
      _ = try KVMSystem().createVM()
      return nil
    } catch {
      return error.description
    }
  }()

  /// With `KVM_REQUIRED=1` the tests run, and fail, where KVM is missing.
  static let runsLiveTests =
    obstacle == nil || getenv("KVM_REQUIRED").map { String(cString: $0) } == "1"

  static let reason = Comment(rawValue: obstacle ?? "KVM is usable")

  static func has(_ capability: Capability) -> Bool {
    do {
      return try KVMSystem().checkExtension(capability) != 0
    } catch {
      // The test then fails by itself, with the error.
      return true
    }
  }

  /// Whether KVM was told to accept MSRs that it does not know.
  static let ignoresUnknownMSRs: Bool = {
    guard let file = fopen("/sys/module/kvm/parameters/ignore_msrs", "r") else { return false }
    defer { fclose(file) }
    return fgetc(file) == Int32(UInt8(ascii: "Y"))
  }()
}

/// A VM with one vCPU in real mode, about to execute `code` at 0x1000 with its stack below 0x1000.
///
/// One thread at a time may use it, but for its interrupter: `GuestRun` joins the one that runs it.
final class RealModeGuest: @unchecked Sendable {
  static let entry: UInt64 = 0x1000

  let memory: GuestMemory
  let machine: VirtualMachine
  var vcpu: VCPU
  let interrupter: VCPU.Interrupter

  init(
    _ code: [UInt8], size: Int = 0x8000, flags: MemoryRegionFlags = [], rflags: UInt64 = 2,
    dirtyRing byteCount: Int? = nil
  ) throws {
    let memory = try GuestMemory(size: size)
    memory.write(code, at: Int(Self.entry))
    let machine = try KVMSystem().createVM()
    if let byteCount {
      try machine.enableCapability(.dirtyLogRing, arguments: [UInt64(byteCount)])
    }
    // Intel processors without unrestricted guests run real mode with the help of these pages.
    try machine.setIdentityMapAddress(0xFFFB_C000)
    try machine.setTSSAddress(0xFFFB_D000)
    try machine.setMemoryRegion(slot: 0, flags: flags, guestPhysicalAddress: 0, memory: memory)
    let vcpu = try machine.createVCPU(id: 0)
    var special = try vcpu.specialRegisters()
    special.cs.base = 0
    special.cs.selector = 0
    try vcpu.setSpecialRegisters(special)
    var registers = Registers()
    registers.rip = Self.entry
    registers.rsp = Self.entry
    registers.rflags = rflags
    try vcpu.setRegisters(registers)
    self.memory = memory
    self.machine = machine
    interrupter = vcpu.interrupter
    self.vcpu = vcpu
  }

  /// Runs on a thread of its own, for at most 10 s; a guest that takes longer gives `.interrupted`.
  func run() throws -> VCPUExit {
    let run = GuestRun(self)
    run.wait(seconds: 10)
    return try run.finish()
  }

  /// Runs, and ends the test unless the run ends like this.
  func expectExit(
    _ expected: VCPUExit, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let exit = try run()
    try #require(exit == expected, sourceLocation: sourceLocation)
  }
}

/// One run of a guest on a thread of its own.
final class GuestRun: Sendable {
  static let kickSignal = SIGUSR1

  private let guest: RealModeGuest
  private let blocksSignal: Bool
  private let threadID = Atomic<Int32>(0)
  private let isDone = Atomic<Bool>(false)
  private let result = Mutex<Result<VCPUExit, KVMError>?>(nil)
  private let thread = Mutex<pthread_t>(0)

  init(_ guest: RealModeGuest, blockingSignal: Bool = false) {
    self.guest = guest
    self.blocksSignal = blockingSignal
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(Self.kickSignal, &action, nil)
    var created: pthread_t = 0
    let context = Unmanaged.passRetained(self).toOpaque()
    let status = pthread_create(&created, nil, { runGuest($0) }, context)
    precondition(status == 0, "pthread_create failed with errno \(status)")
    thread.withLock { $0 = created }
  }

  fileprivate func body() {
    // A new thread has its creator's mask, and Dispatch's threads block most signals.
    var set = sigset_t()
    sigaddset(&set, Self.kickSignal)
    pthread_sigmask(blocksSignal ? SIG_BLOCK : SIG_UNBLOCK, &set, nil)
    threadID.store(ckvm_gettid(), ordering: .releasing)
    do throws(KVMError) {
      let exit = try guest.vcpu.run()
      result.withLock { $0 = .success(exit) }
    } catch {
      result.withLock { $0 = .failure(error) }
    }
    isDone.store(true, ordering: .releasing)
  }

  /// Waits for the end of the run, and kicks it out of the guest once the time is up.
  func wait(seconds: Int) {
    for _ in 0..<(seconds * 1000) where !isDone.load(ordering: .acquiring) { usleep(1000) }
    if !isDone.load(ordering: .acquiring) { kick() }
  }

  /// Ends the run by a signal, sent again for as long as it may have come too early.
  func kick() {
    guest.interrupter.requestImmediateExit(true)
    while !isDone.load(ordering: .acquiring) {
      let id = threadID.load(ordering: .acquiring)
      if id != 0 { _ = ckvm_tgkill(getpid(), id, Self.kickSignal) }
      usleep(1000)
    }
    guest.interrupter.requestImmediateExit(false)
  }

  /// Joins the thread; how the run ended.
  func finish() throws -> VCPUExit {
    let status = thread.withLock { pthread_join($0, nil) }
    precondition(status == 0, "pthread_join failed with errno \(status)")
    guard let result = result.withLock({ $0 }) else { return .interrupted }
    return try result.get()
  }
}

private func runGuest(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  if let context { Unmanaged<GuestRun>.fromOpaque(context).takeRetainedValue().body() }
  return nil
}
