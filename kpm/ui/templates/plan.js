// A chosen file goes into the field, where it can be seen before it is sent.
document.getElementById('file').addEventListener('change', async (event) => {
  const [file] = event.target.files
  if (file && file.size <= 1048576) {
    document.getElementById('objects').value = await file.text()
  }
})
