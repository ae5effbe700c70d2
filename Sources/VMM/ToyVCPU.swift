internal import Glibc
internal import GuestImages
internal import KVM
internal import Synchronization
internal import VMBuilder

/// One vCPU on its thread.
final class ToyVCPU: @unchecked Sendable {
  let number: Int
  /// Of whoever has stopped it, and of its thread while it runs.
  var vcpu: VCPU
  private let interrupter: VCPU.Interrupter
  private let worker: WorkerThread
  private let isStopping = Atomic(false)
  private let uart: ToyUART

  init(_ number: Int, _ vcpu: consuming VCPU, _ uart: ToyUART) throws(KVMError) {
    self.number = number
    interrupter = vcpu.interrupter
    self.vcpu = vcpu
    self.uart = uart
    do { worker = try WorkerThread(name: "toy-vcpu\(number)") } catch {
      throw KVMError(request: "pthread_create", errno: EAGAIN, remedy: nil)
    }
  }

  func run() {
    isStopping.store(false, ordering: .relaxed)
    interrupter.requestImmediateExit(false)
    worker.begin { [self] in loop() }
  }

  /// Takes the vCPU out of the guest, with its port access complete.
  func stop() {
    isStopping.store(true, ordering: .relaxed)
    interrupter.requestImmediateExit(true)
    while !worker.isDone(within: 1) { worker.kick() }
  }

  func end() {
    stop()
    worker.stop()
  }

  private func loop() {
    while true {
      guard let exit = try? vcpu.run() else { return }
      switch exit {
      case .in(let port, _, _): vcpu.completeIn(value: uart.read(port))
      case .out(let port, _, _, _):
        if port == UInt16(VMM_COM1) { uart.write(vcpu.portData()) }
      case .mmioRead: vcpu.completeMMIORead(value: 0)
      case .shutdown, .failEntry, .internalError: return
      default: break
      }
      if exit == .interrupted, isStopping.load(ordering: .relaxed) { return }
    }
  }
}

/// COM1: what the guest sends, and what it is sent.
final class ToyUART: @unchecked Sendable {
  private let lock = Mutex<(sent: [UInt8], toGuest: [UInt8])>(([], []))

  func write(_ bytes: [UInt8]) { lock.withLock { $0.sent += bytes } }

  func read(_ port: UInt16) -> UInt32 {
    lock.withLock { state in
      switch Int32(port) - VMM_COM1 {
      case 5: return 0x60 | (state.toGuest.isEmpty ? 0 : 1)
      case 0: return state.toGuest.isEmpty ? 0 : UInt32(state.toGuest.removeFirst())
      default: return 0
      }
    }
  }

  func send(_ text: String) { lock.withLock { $0.toGuest += Array(text.utf8) } }

  func receive(within milliseconds: Int) -> [UInt8] {
    let end = Stream.now + milliseconds
    while true {
      let bytes = lock.withLock { state in
        defer { state.sent = [] }
        return state.sent
      }
      if !bytes.isEmpty || Stream.now >= end { return bytes }
      Stream.nap()
    }
  }
}
