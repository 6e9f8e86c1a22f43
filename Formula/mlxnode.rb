# `make release` writes the stable `url` and `sha256`. Without them: `brew install --HEAD`.
class Mlxnode < Formula
  include Language::Python::Virtualenv

  desc "OpenAI-compatible inference server, native to Apple silicon through MLX"
  homepage "https://github.com/mlxnode/mlxnode"
  license "Apache-2.0"
  head "https://github.com/mlxnode/mlxnode.git", branch: "main"

  depends_on arch: :arm64
  depends_on macos: :sonoma
  depends_on "python@3.13"

  # Homebrew would give the wheels' libraries longer names, and they are not linked with room for
  # them (tokenizers has 112 bytes and would need 64): "updated load commands do not fit".
  preserve_rpath

  def install
    # MLX comes as a wheel with its Metal library, so the dependencies are wheels as well, which
    # pip resolves. virtualenv_create points to python's opt path: `brew upgrade python@3.13`
    # leaves the environment whole. mlxnode fetches the demo models with the environment's pip.
    virtualenv_create(libexec, "python3.13", system_site_packages: false)
    system "python3.13", "-m", "pip", "--python=#{libexec}/bin/python",
           "install", "--prefer-binary", "pip", buildpath
    bin.install_symlink libexec/"bin/mlxnode"

    # An existing file stays as it is; the new one is then config.toml.default beside it.
    chmod 0600, "config.toml" # for the user's own key
    pkgetc.install "config.toml"

    pkgshare.install "tests/support/tiny.py" # for the test below
  end

  def caveats
    <<~EOS
      The configuration is #{pkgetc}/config.toml
      It serves two small demo models (180 MB, which the first start fetches) to this Mac only,
      with the example key. Before other machines may connect, set a key of your own.
    EOS
  end

  service do
    run [opt_bin/"mlxnode", "serve", "--config", etc/"mlxnode/config.toml"]
    # Whatever ended it: a model on a disk that is not mounted yet, or an error in the
    # configuration (exit code 2) until the file is correct. launchd waits 10 s between starts.
    keep_alive true
    # Longer than [server] drain_timeout, in which running requests finish.
    stop_timeout 45
    process_type :interactive # the default is throttled
    working_dir var
    log_path var/"log/mlxnode.log"
    error_log_path var/"log/mlxnode.log"
  end

  test do
    system libexec/"bin/python", pkgshare/"tiny.py", testpath/"tiny"
    port = free_port
    (testpath/"config.toml").write <<~TOML
      [api]
      address = "127.0.0.1:#{port}"
      require_auth = false
      [api.models.tiny]
      path = "tiny"
      type = "completion"
      [server]
      workers = 1
    TOML

    pid = spawn bin/"mlxnode", "serve", "--config", testpath/"config.toml"
    begin
      curl = "curl --silent --show-error --fail --retry 60 --retry-delay 1 --retry-connrefused"
      url = "http://127.0.0.1:#{port}"
      shell_output("#{curl} #{url}/health")
      body = '{"model": "tiny", "prompt": "Hello", "max_tokens": 4, "ignore_eos": true}'
      answer = JSON.parse(
        shell_output("#{curl} -H 'Content-Type: application/json' -d '#{body}' #{url}/v1/completions"),
      )
      assert_equal 4, answer["usage"]["completion_tokens"]
    ensure
      Process.kill "TERM", pid
      Process.wait pid
    end
    assert_predicate $CHILD_STATUS, :success?
  end
end
