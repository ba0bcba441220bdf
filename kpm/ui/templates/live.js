// Shows what the server sends; says so when it sends nothing any more.
const source = new EventSource('events')
const state = document.getElementById('state')
source.onmessage = (event) => {
  document.getElementById('live').innerHTML = JSON.parse(event.data)
  state.textContent = 'live'
}
source.onerror = () => { state.textContent = 'not live: kubectl power ui does not answer' }
